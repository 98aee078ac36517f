"""The completions of bash."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tests.commands import PROGRAMS, Command, takes_value
from tests.completions.values import DENIED, HEADER, NAMES, Value, all_of, function_of, path_of, value_of, valued

WIDTH = 120

_BASH = """\
# {header}

{function}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} path='' waits='' place=0 kind='' key word index words=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        if [[ $word == '=' ]]; then
            continue
        elif [[ -n $waits ]]; then
            waits=''
        elif [[ $word == -* ]]; then
            case "$path $word" in
{valued}) waits=$word ;;
            esac
        else
            case $path/$word in
{paths}) path+=/$word ;;
                *) ((place += 1)) ;;
            esac
        fi
    done
    [[ $cur != '=' ]] || cur=''
    if [[ -n $waits ]]; then
        key="$path $waits"
    elif [[ $cur == -* ]]; then
        key="$path -"
    else
        key="$path $place"
    fi
    case $key in
{keys}
    esac
    COMPREPLY=()
    case $kind in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
        denied)
            mapfile -t words < <("$1" status --json 2>/dev/null |
                {denied})
            ;;
    esac
    for word in "${{words[@]}}"; do
        [[ $word != "$cur"* ]] || COMPREPLY+=("$word")
    done
}}

{complete}
"""
_BASH_NAMES = """\
complete -F {function} {first}
# Another program may have the name {second}.
if ! type -P {first} >/dev/null || [[ $(type -P {second}) -ef $(type -P {first}) ]]; then
    complete -F {function} {second}
fi"""


def _wrapped(words: list[str], indent: str, joint: str = " ", end: str = "") -> str:
    """Lines of words, with `end` at the end of each but the last."""
    lines = [words[0]]
    for word in words[1:]:
        if len(indent + lines[-1] + joint + word + end) > WIDTH:
            lines.append(word)
        else:
            lines[-1] += joint + word
    return f"{end}\n".join(indent + line for line in lines)


def _patterns(texts: list[str]) -> str:
    return _wrapped([shlex.quote(each) for each in texts], " " * 16, " | ", " |\\")


def _bash_case(key: str, value: Value) -> str:
    if not value.words:
        return f"        {key}) kind={value.kind} ;;"
    words = [shlex.quote(word) for word in dict.fromkeys(word for word, _ in value.words)]
    line = f"        {key}) words=({' '.join(words)}) ;;"
    if len(line) <= WIDTH:
        return line
    return f"        {key})\n            words=(\n{_wrapped(words, ' ' * 16)}\n            )\n            ;;"


def _bash_cases(command: Command) -> Iterator[str]:
    path = path_of(command)
    names = [name for option in command.options for name in option.option_strings]
    yield _bash_case(f"'{path} -'", Value("words", tuple((name, "") for name in ("--help", *names))))
    if command.verbs:
        yield _bash_case(f"'{path} 0'", Value("words", tuple((verb.words[-1], "") for verb in command.verbs)))
    for place, each in enumerate(command.positionals):
        value = value_of(command, each)
        if value.kind != "nothing":
            yield _bash_case(f"'{path} '*" if each.nargs == "+" else f"'{path} {place}'", value)
    for option in command.options:
        value = value_of(command, option) if takes_value(option) else Value()
        if value.kind != "nothing":
            yield _bash_case(" | ".join(f"'{path} {name}'" for name in option.option_strings), value)


def bash(name: str) -> str:
    """The completions of a program for bash."""
    program, function = PROGRAMS[name], function_of(name)
    first, *others = NAMES[name]
    names = _BASH_NAMES.format(function=function, first=first, second=others[0]) if others else ""
    return _BASH.format(
        header=HEADER.format(name=name, shell="bash"), function=function, denied=DENIED,
        valued=_patterns(valued(program)), paths=_patterns([path_of(each) for each in all_of(program)][1:]),
        keys="\n".join(case for each in all_of(program) for case in _bash_cases(each)),
        complete=names or f"complete -F {function} {first}",
    )  # fmt: skip
