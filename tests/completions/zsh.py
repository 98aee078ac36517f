"""The completions of zsh."""

from __future__ import annotations

import argparse
import shlex

from tests.commands import PROGRAMS, Command, takes_value, value_name
from tests.completions.values import DENIED, HEADER, NAMES, Value, all_of, function_of, meanings, value_of

_ZSH = """\
#compdef {names}
# {header}

{functions}
{other}{function} "$@"
"""
_ZSH_OTHER = """\
# Another program may have the name {second}.
if [[ $service == {second} && -n $commands[{first}] && ! $commands[{second}] -ef $commands[{first}] ]]; then
    _default
    return
fi
"""
_ZSH_DENIED = """\
{function}_denied() {{
    local -a versions=(${{(f)"$(_call_program versions $service status --json 2>/dev/null |
        {denied})"}})
    _describe -t versions version versions
}}
"""
_ZSH_CODES = """\
{function}_codes() {{
    local -a codes=(
{codes}
    )
    _describe -t codes code codes
}}
"""


def _zsh_text(text: str) -> str:
    return "".join(f"\\{each}" if each in "[]:\\" else each for each in text)


def _zsh_action(name: str, value: Value) -> str:
    match value.kind:
        case "codes":
            return f"{function_of(name)}_codes"
        case "words":
            return f"({' '.join(word for word, _ in value.words)})"
        case "denied":
            return f"{function_of(name)}_denied"
    return {"files": "_files", "folders": "_files -/"}.get(value.kind, " ")


def _zsh_option(name: str, command: Command, option: argparse.Action, group: tuple[argparse.Action, ...]) -> list[str]:
    others = " ".join(each for one in group for each in one.option_strings)
    again = isinstance(option, argparse._AppendAction)
    made = []
    for each in option.option_strings:
        long = each.startswith("--")
        text = f"[{_zsh_text(command.told(option))}]"
        if takes_value(option):
            colon, same = ("::", "-") if option.nargs == "?" else (":", "+")
            text = ("=-" if option.nargs == "?" else "=") + text if long else same + text
            text += f"{colon}{_zsh_text(value_name(option))}:{_zsh_action(name, value_of(command, option))}"
        made.append(f"*{each}{text}" if again else f"({others}){each}{text}")
    return made


def _zsh_function(name: str, command: Command) -> str:
    specs = ["(- *)-h[show the help]", "(- *)--help[show the help]"]
    for group in command.groups():
        for option in group:
            specs += _zsh_option(name, command, option, group)
    for each in command.positionals:
        place = "*" if each.nargs == "+" else ""
        colon = "::" if each.nargs == "?" else ":"
        specs.append(f"{place}{colon}{_zsh_text(value_name(each))}:{_zsh_action(name, value_of(command, each))}")
    function = function_of(name) + "".join(f"_{word}" for word in command.words[1:]).replace("-", "_")
    if command.verbs:
        specs += ["1: :->verb", "*:: :->rest"]
    lines = "".join(f" \\\n        {shlex.quote(each)}" for each in specs)
    start = '    local curcontext="$curcontext" state line\n    typeset -A opt_args\n' if command.verbs else ""
    text = f"{function}() {{\n{start}    _arguments -s{' -C' if command.verbs else ''}{lines}\n"
    if command.verbs:
        verbs = "".join(
            f"                {shlex.quote(f'{verb.words[-1]}:{verb.summary}')}\n" for verb in command.verbs
        )
        text += f"""\
    case $state in
        verb)
            local -a verbs=(
{verbs}            )
            _describe -t verbs verb verbs
            ;;
        rest)
            case $words[1] in
                {"|".join(verb.words[-1] for verb in command.verbs)}) {function}_${{words[1]//-/_}} ;;
            esac
            ;;
    esac
"""
    return text + "}\n"


def zsh(name: str) -> str:
    """The completions of a program for zsh."""
    functions = [_zsh_function(name, each) for each in all_of(PROGRAMS[name])]
    if name == "updatectl":
        codes = "\n".join(f"        {shlex.quote(f'{code}:{meaning}')}" for code, meaning in meanings().items())
        functions.append(_ZSH_DENIED.format(function=function_of(name), denied=DENIED))
        functions.append(_ZSH_CODES.format(function=function_of(name), codes=codes))
    first, *others = NAMES[name]
    return _ZSH.format(
        names=" ".join(NAMES[name]), header=HEADER.format(name=name, shell="zsh"), functions="\n".join(functions),
        other="".join(_ZSH_OTHER.format(first=first, second=second) for second in others), function=function_of(name),
    )  # fmt: skip
