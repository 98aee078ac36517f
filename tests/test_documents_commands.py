"""Every command in the documents is one that the programs take, and every file that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.commands_in_documents import DOCUMENTS, commands, label, problems
from tests.documents import FOLDER, ROOT
from tests.test_documents import anchors, registered_metrics

INDEX = FOLDER / "README.md"


@pytest.mark.parametrize("document", DOCUMENTS, ids=label)
def test_the_programs_take_every_command(document: Path) -> None:
    assert problems(document.read_text()) == []


def test_commands_are_found_at_all() -> None:
    found = [words for path in DOCUMENTS for block in blocks(path) for words in commands(block)]
    programs = {word for words in found for word in words[:1]}
    assert {"updatectl", "releasectl", "updated", "python3", "make", "packaging/image/build-rootfs"} <= programs


def blocks(document: Path) -> list[str]:
    return re.findall(r"^ *```sh\n(.*?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "wrong",
    [
        "updatectl hodl 7d",
        "updatectl install --waits",
        "updatectl --root DIR stats",
        "updatectl history -n many",
        "releasectl promote repository --keys keys --version 1.4.0",
        "releasectl key rotated repository",
        "python3 -m bootctl --esp-partition /mnt show",
        "python3 -m bootctl arm",
        "updated-bootctl --device /dev/sda shwo",
        "updated-health judge --act",
        "python3 -m health hooks pre-boot",
        "updated --twice",
        "make everything",
        "make -s && packaging/image/build-everything --version 1.0.0",
        "until updatectl --root \"$NODE\" chek; do sleep 1; done",
        "slot=$(python3 -m bootctl nxt)",
        "X=1 releasectl status",
        "sudo updatectl rollback b 2>/dev/null | cat",
    ],
)
def test_a_command_that_no_program_takes_is_found(wrong: str) -> None:
    assert problems(f"Do this:\n\n```sh\n# it's so\n{wrong}   # don't\n```\n") != []


@pytest.mark.parametrize(
    "wrong", ["updatectl hodl", "releasectl refresh --hourly", "python3 -m bootctl show|nxt", "updated-bootctl shwo",
              "X=/lib/updated python3 -m bootctl shwo", "make everything", "updated --twice", "packaging/nowhere.toml"]
)  # fmt: skip
def test_a_wrong_word_in_the_text_is_found(wrong: str) -> None:
    assert problems(f"Then `{wrong}` does it.\n") != []


@pytest.mark.parametrize(
    "right",
    [
        "updatectl hold", "updatectl --root DIR VERB", "updatectl VERB --help", "python3 -m bootctl", "updated fetch",
        "updated-health", "bootctl install",
        "releasectl init … --lifetime timestamp=30", "releasectl key new\\|import", "make conformance SUITE=CHECKOUT",
    ],
)  # fmt: skip
def test_a_part_of_a_command_in_the_text_is_no_fault(right: str) -> None:
    assert problems(f"Then `{right}` does it.\n") == []


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent != FOLDER], ids=label)
def test_every_link_of_the_other_documents_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not link.startswith("https://"):
            assert target.exists(), f"{link}: there is no such file"
            assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_the_index_has_every_document_once() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)\)", INDEX.read_text())
    assert len(linked) == len(set(linked))
    there = {path.resolve() for path in DOCUMENTS if path not in (INDEX, ROOT / "README.md")}
    assert {(FOLDER / link).resolve() for link in linked if link.endswith(".md")} == there


def test_the_runbook_uses_metrics_that_exist() -> None:
    used = set(re.findall(r"\bupdated_[a-z_]+", (FOLDER / "runbook.md").read_text()))
    assert used
    assert used <= set(registered_metrics())


def test_every_part_of_the_runbook_says_how_one_knows_that_it_worked() -> None:
    parts = re.split(r"^## ", (FOLDER / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert len(parts) >= 12
    for part in parts:
        title = part.splitlines()[0]
        assert "**Do**" in part or "**Do.**" in part or "what to do |" in part or "| cost |" in part, title
        assert "**It worked**" in part, title
