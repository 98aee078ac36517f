"""The commands that stand in a document, and whether the programs would take them.

In a block of `sh` each command of ours is parsed as the program itself parses it. Between backquotes in the text stands
often only a part of a command: there each word has to be a verb or an option of the program.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import bootctl.__main__
import health.usage
import updated.__main__
import updated.cli.arguments
import updated.publish.__main__
from tests.documents import ROOT
from updated.core.errors import UpdatedError

DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("packaging/*/README.md")), *sorted(ROOT.glob("packaging/doc/*.md")))
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "updatectl": updated.cli.arguments.parser,
    "releasectl": updated.publish.__main__.parser,
    "bootctl": bootctl.__main__.parser,
    "health": health.usage.parser,
}
_NAMES = {"updated-ctl": "updatectl", "updated-bootctl": "bootctl", "updated-health": "health"}
# Words of the shell that a command may follow.
_BEFORE = {"!", "do", "else", "exec", "if", "sudo", "then", "until", "while", "{"}
_ENDS = re.compile(r"[();&|]+")
_REDIRECTION = re.compile(r"(?:(?<=\s)\d)?(?:>>|>&|<<-?|>|<)\s*(?:&\d|[^\s;&|]+)")
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w./{$-])(?:packaging|tests)/[\w./@*-]*[\w*]")
_PLACEHOLDER = re.compile(r"[A-Z]+")
_DOTS = ("…", "...")


def problems(text: str) -> list[str]:
    """What no program would take, and which files of this project are named and not there."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose)]
    found = [fault for block in blocks for words in commands(block) for fault in _whole(words)]
    found += [fault for span in spans for fault in _part(span.split())]
    found += [
        f"{path}: there is no such file"
        for path in sorted({path for each in (*blocks, *spans) for path in _PATH.findall(each)})
        if not any(ROOT.glob(path))
    ]
    return found


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command in a shell script, without what the shell itself makes of them."""
    inner, outer = _substitutions(block.replace("\\\n", " "))
    for script in inner:
        yield from commands(script)
    lines = outer.splitlines()
    while lines:
        script = lines.pop(0)
        # A quoted word may go on over many lines.
        while (tokens := _tokens(script)) is None and lines:
            script += "\n" + lines.pop(0)
        words: list[str] = []
        for token in [*(tokens or []), ";"]:
            if not _ENDS.fullmatch(token):
                words.append(token)
                continue
            while words and (words[0] in _BEFORE or _ASSIGNMENT.fullmatch(words[0])):
                del words[0]
            if words:
                yield words
            words = []


def _substitutions(script: str) -> tuple[list[str], str]:
    """The scripts within `$(…)`, and the script with a word instead of each."""
    inner, outer, start = [], "", 0
    while (begin := script.find("$(", start)) >= 0:
        outer += script[start:begin]
        end, depth = begin + 2, 1
        while depth and end < len(script):
            depth += {"(": 1, ")": -1}.get(script[end], 0)
            end += 1
        inner.append(script[begin + 2 : end - 1])
        outer, start = outer + "SUBSTITUTED", end
    return inner, outer + script[start:]


def _tokens(script: str) -> list[str] | None:
    """None when a quotation is not closed."""
    lexer = shlex.shlex(_REDIRECTION.sub(" ", script), posix=True, punctuation_chars="();&|")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return None


def _program(words: Sequence[str]) -> tuple[str, list[str]]:
    """Which program is meant, and its arguments; nothing for a program that isn't ours."""
    name = words[0].rpartition("/")[2]
    if name == "python3" and list(words[1:2]) == ["-m"] and len(words) > 2:
        return (words[2], list(words[3:])) if words[2] in PARSERS else ("", [])
    # The program bootctl is systemd's, and health is none.
    ours = name in (*_NAMES, "updatectl", "releasectl", "updated", "make")
    return (_NAMES.get(name, name), list(words[1:])) if ours else ("", [])


def _whole(words: Sequence[str]) -> list[str]:
    if any(dots in word for word in words for dots in _DOTS):
        return _part(words)
    program, arguments = _program(words)
    if program == "make":
        return _targets(arguments)
    if program == "updated" and arguments and not arguments[0].startswith("-"):
        return [] if arguments[0] in ("fetch", "seal") else [f"{' '.join(words)}: updated has no {arguments[0]}"]
    if program in ("", "updated"):
        return _part(words)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if program == "health":
                health.usage.options_of(arguments)
            else:
                PARSERS[program]().parse_args(arguments)
    except SystemExit as end:
        if end.code:
            return [f"{' '.join(words)}: {said.getvalue().strip().splitlines()[-1]}"]
    except UpdatedError as error:
        return [f"{' '.join(words)}: {error}"]
    return []


def _part(words: Sequence[str]) -> list[str]:
    words = [word for word in words if word not in _DOTS and not _ASSIGNMENT.fullmatch(word)]
    program, arguments = _program(words) if words else ("", [])
    if program == "make":
        return _targets(arguments)
    if program == "updated":
        options = _options_of_updated()
        wrong = [word for word in arguments if word.startswith("-") and word not in options]
        return [f"{' '.join(words)}: updated has no {word}" for word in wrong]
    return [f"{' '.join(words)}: {fault}" for fault in _walk(PARSERS[program](), arguments)] if program else []


def _walk(parser: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    """Follows the verbs, and looks for each option where the verbs have led."""
    left = [word.strip("[],") for word in words]
    while left:
        word = left.pop(0)
        children = next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
        if word.startswith("-"):
            for option in word.partition("=")[0].split("|"):
                action = parser._option_string_actions.get(option)
                if action is None:
                    yield f"{parser.prog} has no option {option}"
                elif action.nargs != 0 and "=" not in word:
                    del left[:1]
        elif children is not None:
            verbs = word.split("|")
            if any(_PLACEHOLDER.fullmatch(verb) for verb in verbs):
                return
            yield from (f"{parser.prog} has no verb {verb}" for verb in verbs if verb not in children.choices)
            if verbs[0] not in children.choices:
                return
            parser = children.choices[verbs[0]]


def _targets(words: Sequence[str]) -> list[str]:
    there = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return [f"make has no target {word}" for word in words if "=" not in word and word not in there]


def _options_of_updated() -> set[str]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        updated.__main__.main(["--help"])
    return set(re.findall(r"--?[a-z][a-z-]*", told.getvalue()))


def label(document: Path) -> str:
    """The name of a document for a person."""
    return str(document.relative_to(ROOT))
