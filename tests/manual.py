"""The generated parts of the manual pages: options and verbs from the parsers, tables from the documents.

`python -m tests.documents` writes them anew. Each is between the comments `; generated: PART PROGRAM` and `; end`.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from tests.commands import PROGRAMS, Command, takes_value, value_name
from tests.documents import FOLDER, ROOT, section

PAGES = ROOT / "packaging/man"
SHARED_BY = 4
"""What so many verbs take is described once."""

_PART = re.compile(r"(; generated: ([a-z]+) ?(\S*)\n)(.*?)(; end\n)", re.DOTALL)
# Where a page can't follow: "; see [that](there)", and parts of the source that are not installed.
_ELSEWHERE = re.compile(r"[:;,] see \[[^\]]*\]\([^)]*\)| \(\[packaging/[^\]]*\]\([^)]*\)\)")
_LINK = re.compile(r"\[((?:[^\]`]|`[^`]*`)*)\]\([^)]*\)")


# ------------------------------------------------------------------------------------------------ Markdown and scdoc


def escaped(text: str) -> str:
    """`text` as scdoc takes it for itself."""
    return re.sub(r"[\\*_+<>\[\]|#;~`]", r"\\\g<0>", text)


def inline(markdown: str) -> str:
    """A paragraph of Markdown: code becomes bold, and links lose their targets."""
    text = _LINK.sub(r"\1", _ELSEWHERE.sub("", markdown)).replace("**", "").replace("\\|", "|")
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(f"*{escaped(each[1:-1])}*" if each.startswith("`") else _prose(each) for each in pieces if each)


def _prose(markdown: str) -> str:
    return "".join(
        f"_{escaped(each[1:-1])}_" if len(each) > 2 and each.startswith("*") and each.endswith("*") else escaped(each)
        for each in re.split(r"(\*[^*\s][^*]*\*)", markdown)
    )


def entry(head: str, *texts: str) -> str:
    """What is described, and below it, indented, the description."""
    return head + "\n" + "\n".join(f"\t{text}\n" for text in texts if text)


def described(text: str) -> str:
    """A description as a sentence. Its first word stays as it is if that is code."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":", "…")) else ".")


def converted(markdown: str) -> str:
    """Sections of a document; their tables of three columns are keys with their defaults."""
    made = []
    for block in _blocks(markdown):
        if block.startswith("```"):
            made.append("\t" + re.sub(r"^```\w*", "```", block).replace("\n", "\n\t"))
        elif block.startswith("#"):
            level, title = block.split(" ", 1)
            made.append("#" * min(len(level) - 1, 2) + " " + title.replace("`", ""))  # taken as it is
        elif block.startswith("|"):
            made += [_key(*cells) for cells in rows_as_they_are(block)]
        elif re.match(r"- |\d+\. ", block):
            items = re.split(r"\n(?=- |\d+\. )", block)
            made.append("\n".join(("- " if each[0] == "-" else ". ") + inline(_joined(each)) for each in items))
        else:
            made.append(inline(" ".join(block.split())))
    return "\n\n".join(each.rstrip("\n") for each in made) + "\n"


def _joined(item: str) -> str:
    return " ".join(item.split(" ", 1)[1].split())


def _blocks(markdown: str) -> Iterator[str]:
    for index, piece in enumerate(re.split(r"(```.*?\n```)", markdown, flags=re.DOTALL)):
        if index % 2:
            yield piece
            continue
        for block in re.split(r"\n\s*\n", piece):
            yield from (each.strip("\n") for each in re.split(r"(?m)(^#+ .*$)", block) if each.strip())


def rows_as_they_are(table: str) -> list[list[str]]:
    """The cells of a table below its header, with their marks."""
    lines = table.strip().splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]


def _key(key: str, default: str, meaning: str) -> str:
    told = inline(default) if default in ("none", "required", "found") else f"default: {inline(default)}"
    return entry(f"{inline(key)} ({told})", described(inline(meaning)))


# --------------------------------------------------------------------------------------------------- command lines


def _value(action: argparse.Action) -> str:
    name = f"_{escaped(value_name(action))}_"
    return {"?": f"[{name}]", "+": f"{name}..."}.get(str(action.nargs), name).replace("[", "\\[").replace("]", "\\]")


def _option(option: argparse.Action, *, every_name: bool) -> str:
    names = option.option_strings if every_name else option.option_strings[-1:]
    value = f" {_value(option)}" if takes_value(option) else ""
    return ", ".join(f"*{escaped(each)}*{value}" for each in names)


def _head(action: argparse.Action) -> str:
    return _option(action, every_name=True) if action.option_strings else _value(action)


def _synopsis(verb: Command, without: set[str]) -> str:
    words = [f"*{' '.join(verb.words[1:])}*"]
    for group in verb.groups():
        if group[0].dest not in without:
            text = " \\| ".join(_option(each, every_name=False) for each in group)
            needed = verb.needs_one_of(group)
            words.append(text if needed and len(group) == 1 else f"({text})" if needed else f"\\[{text}\\]")
    return " ".join([*words, *(_value(each) for each in verb.positionals)])


def _arguments(command: Command, without: set[str]) -> Iterator[str]:
    for each in (*command.positionals, *command.options):
        if each.dest not in without:
            yield entry(_head(each), described(escaped(command.told(each))))


def _shared(program: Command) -> dict[str, tuple[Command, argparse.Action]]:
    """By name what is the same for many verbs."""
    found = [(leaf, each) for leaf in program.leaves for each in (*leaf.positionals, *leaf.options)]
    said = Counter((each.dest, leaf.told(each)) for leaf, each in found)
    return {each.dest: (leaf, each) for leaf, each in found if said[each.dest, leaf.told(each)] >= SHARED_BY}


def options(name: str) -> str:
    """The options of a program, before any verb, and *--help*."""
    program = PROGRAMS[name]
    first = entry("*-h*, *--help*", "Say what there is, for the program or for one of its verbs.")
    return "\n".join([first, *_arguments(program, set())])


def shared(name: str) -> str:
    """Options that many verbs of a program have."""
    own = {each.dest for each in PROGRAMS[name].options}
    return "\n".join(
        entry(_head(each), described(escaped(leaf.told(each))))
        for dest, (leaf, each) in _shared(PROGRAMS[name]).items()
        if dest not in own
    )


def verbs(name: str) -> str:
    """Each verb of a program with what it takes, but for what many have."""
    documented = {
        cells[0].strip("`").split()[0]: inline(cells[1])
        for cells in rows_as_they_are(_first_table(section((FOLDER / "operating.md").read_text(), "Verbs")))
    }
    everywhere = _shared(PROGRAMS[name])
    made = []
    for verb in PROGRAMS[name].leaves:
        helps = {each.help for each in (*verb.positionals, *verb.options)}
        own = {dest for dest, (_, each) in everywhere.items() if each.help in helps}
        text = documented[verb.words[-1]] if name == "updatectl" else escaped(verb.summary)
        inner = [re.sub(r"(?m)^(?=.)", "\t", each) for each in _arguments(verb, own)]
        hidden = own if name != "releasectl" else set()
        made.append(entry(_synopsis(verb, hidden), described(text)) + "".join(f"\n{each}" for each in inner))
    return "\n".join(made)


def _first_table(text: str) -> str:
    found = re.search(r"(?m)(^\|.*\n)+", text)
    assert found is not None
    return found[0]


# --------------------------------------------------------------------------------------------- from the documents


def statuses(program: str) -> str:
    """The exit statuses of a program, and what else is said of them."""
    text = section((FOLDER / "operating.md").read_text(), program)
    found = _first_table(text)
    after = [inline(" ".join(each.split())) + "\n" for each in text.split(found)[1].split("\n\n") if each.strip()]
    lines = [entry(f"*{number}*", described(inline(meaning))) for number, meaning in rows_as_they_are(found)]
    return "\n".join([*lines, *after])


def files(_: str) -> str:
    """The files of a node."""
    found = rows_as_they_are(_first_table(section((FOLDER / "operating.md").read_text(), "Files")))
    return "\n".join(
        entry(inline(path), described(inline(what)) + (f" When it is lost: {inline(lost)}." if lost else ""))
        for path, what, lost in found
    )


def configuration(_: str) -> str:
    """All tables of the configuration."""
    text = (FOLDER / "configuration.md").read_text()
    return converted(text[text.index("## [") :])


def reading(_: str) -> str:
    """Where the configuration is read from."""
    text = (FOLDER / "configuration.md").read_text()
    return converted(text[text.index("\n") : text.index("[updated.toml.example]")])


def codes(_: str) -> str:
    """The reasons for which a node waits."""
    found = rows_as_they_are(_first_table(section((FOLDER / "operating.md").read_text(), "Reasons")))
    return "\n".join(entry(inline(code), described(inline(meaning))) for code, meaning in found)


GENERATED: Mapping[str, Callable[[str], str]] = {
    "options": options, "shared": shared, "verbs": verbs, "statuses": statuses, "files": files,
    "configuration": configuration, "reading": reading, "codes": codes,
}  # fmt: skip


def regenerated(text: str) -> str:
    """A page with its generated parts as the code and the documents give them now."""
    return _PART.sub(lambda match: match[1] + GENERATED[match[2]](match[3]) + match[5], text)


def write() -> None:
    """Writes the generated parts of all pages anew."""
    for page in PAGES.glob("*.scd"):
        page.write_text(regenerated(page.read_text()))
