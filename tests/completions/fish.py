"""The completions of fish."""

from __future__ import annotations

from collections.abc import Iterator

from tests.commands import PROGRAMS, Command, takes_value
from tests.completions.values import (
    DENIED,
    HEADER,
    NAMES,
    Value,
    all_of,
    function_of,
    meanings,
    path_of,
    value_of,
    valued,
)

_FISH = """\
# {header}

# Whether the words so far lead to a verb, and so many arguments stand behind it.
function _{function}_at -a wanted place
    set -l words (commandline -opc)
    set -e words[1]
    set -l path ''
    set -l count 0
    set -l skip no
    for word in $words
        if test $skip = yes
            set skip no
        else if contains -- "$path $word" {valued}
            set skip yes
        else if string match -q -- '-*' $word
            continue
        else if contains -- "$path/$word" {paths}
            set path $path/$word
        else
            set count (math $count + 1)
        end
    end
    test "$path" = "$wanted"; and test -z "$place" -o "$count" = "$place"
end

{helpers}{lines}
"""
_FISH_DENIED = """\
function _{function}_denied
    set -l program updated-ctl
    command -q $program; or set program updatectl
    command $program status --json 2>/dev/null |
        {denied}
end

"""
_FISH_CODES = """\
function _{function}_codes
    printf '%s\\t%s\\n' \\
{codes}
end

"""
_FISH_NAMES = """
# Another program may have the name {second}.
if not command -q {first}; or test (realpath (command -s {second}) 2>/dev/null) = (realpath (command -s {first}))
    complete -c {second} -w {first}
end"""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_value(name: str, value: Value) -> str:
    match value.kind:
        case "codes":
            return f"-f -a '(_{function_of(name)}_codes)'"
        case "words":
            return f"-f -a '{' '.join(word for word, _ in value.words)}'"
        case "denied":
            return f"-f -a '(_{function_of(name)}_denied)'"
        case "files":
            return "-F"
        case "folders":
            return "-f -a '(__fish_complete_directories)'"
    return "-f"


def _fish_lines(name: str, command: Command) -> Iterator[str]:
    path, start = path_of(command), f"complete -c {NAMES[name][0]} -n "
    at = f"_{function_of(name)}_at '{path}'"
    yield start + f"{_fish_quoted(at)} -f -s h -l help -d 'show the help'"
    for option in command.options:
        names = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in option.option_strings]
        given = _fish_value(name, value_of(command, option)) if takes_value(option) else "-f"
        needs = ["-r"] if takes_value(option) and option.nargs != "?" else []
        yield start + " ".join([_fish_quoted(at), *names, *needs, given, "-d", _fish_quoted(command.told(option))])
    for verb in command.verbs:
        yield start + f"{_fish_quoted(f'{at} 0')} -f -a {verb.words[-1]} -d {_fish_quoted(verb.summary)}"
    for place, each in enumerate(command.positionals):
        value = value_of(command, each)
        if value.kind != "nothing":
            where = at if each.nargs == "+" else f"{at} {place}"
            yield start + f"{_fish_quoted(where)} {_fish_value(name, value)}"


def fish(name: str) -> str:
    """The completions of a program for fish."""
    program, function = PROGRAMS[name], function_of(name)
    first, *others = NAMES[name]
    helpers = ""
    if name == "updatectl":
        codes = [f"        {code} {_fish_quoted(meaning)}" for code, meaning in meanings().items()]
        helpers = _FISH_DENIED.format(function=function, denied=DENIED)
        helpers += _FISH_CODES.format(function=function, codes=" \\\n".join(codes))
    lines = [f"complete -c {first} -f", *(line for each in all_of(program) for line in _fish_lines(name, each))]
    if others:
        lines.append(_FISH_NAMES.format(first=first, second=others[0]))
    return _FISH.format(
        header=HEADER.format(name=name, shell="fish"), function=function,
        valued=" ".join(_fish_quoted(each) for each in dict.fromkeys(valued(program))),
        paths=" ".join(path_of(each) for each in list(all_of(program))[1:]),
        helpers=helpers, lines="\n".join(lines),
    )  # fmt: skip
