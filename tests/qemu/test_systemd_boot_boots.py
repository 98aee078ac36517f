"""systemd-boot 252 itself, under OVMF, with the entries that the back-end makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootctl.efivars import LOADER_GUID, encode_text
from bootctl.model import EMPTY, next_boot
from tests.fakes import systemd_boot
from tests.qemu.disks import Files
from tests.qemu.loaders import Node, SystemdBootLoader, boot_each, boot_states, entry, image
from tests.qemu.promises import CountingPromises, armed, confirmed


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(SystemdBootLoader(), tmp_path)


class TestSystemdBoot(CountingPromises):
    """With entries of type 1, whose boots are counted."""


def names(files: Files) -> list[str]:
    return sorted(name for name in files if name.startswith("updated-"))


def choice(name: str, value: str) -> dict[str, bytes]:
    """A variable as efivarfs shows it."""
    return {f"{name}-{LOADER_GUID}": (7).to_bytes(4, "little") + encode_text(value)}


def test_the_loader_counts_in_the_name_of_the_file_and_changes_nothing_else(node: Node) -> None:
    node.change(armed(2))
    seen, contents = [], []
    for slot in "bba":
        seen.append(names(node.files()))
        contents.append(sorted(node.files().values()))
        assert node.boot() == slot
    assert seen == [
        ["updated-a.conf", "updated-b+2-0.conf"],
        ["updated-a.conf", "updated-b+1-1.conf"],
        ["updated-a.conf", "updated-b+0-2.conf"],
    ]
    assert contents[0] == contents[1] == contents[2]


def test_a_name_does_not_get_longer_when_ten_tries_become_nine(node: Node) -> None:
    node.change(armed(10))
    assert names(node.files()) == ["updated-a.conf", "updated-b+10-00.conf"]
    assert node.boot() == "b"
    assert names(node.files()) == ["updated-a.conf", "updated-b+9-1.conf"]


def test_a_trial_that_failed_is_tried_once_more_where_no_slot_came_up_after_it(node: Node) -> None:
    """The limit that the back-end's document tells of: among the entries with no boots left, versions decide."""
    node.change(confirmed("a", counted=1))
    node.change(armed(1))
    assert node.boots(2) == "ba"
    assert next_boot(node.view())[0] == "a"
    assert node.start().slot == "b"


def test_an_image_that_is_older_than_the_running_one_is_tried_once_by_its_name(tmp_path: Path) -> None:
    """The version in a signed image gives its place, so that a trial of an older one needs LoaderEntryOneShot."""
    node = Node(
        SystemdBootLoader(), tmp_path, {"updated-a.efi": image("a", "2"), "updated-b+0-0.efi": image("b", "1")}
    )
    assert node.view().state("b") == EMPTY
    node.change(armed(1))
    assert {f"{name}-{LOADER_GUID}" for name in ("LoaderEntryDefault", "LoaderEntryOneShot")} <= node.files().keys()
    assert node.boots(2) == "ba"
    assert f"LoaderEntryOneShot-{LOADER_GUID}" not in node.files()


A, B = entry("a", 1), entry("b", 2)
STATES: dict[str, Files] = {
    "a trial": {"updated-a.conf": A, "updated-b+3-0.conf": B},
    "the counter without the boots that were done": {"updated-a.conf": A, "updated-b+3.conf": B},
    "a trial that is used up": {"updated-a.conf": A, "updated-b+0-3.conf": B},
    "no slot may boot": {"updated-a+0-2.conf": A, "updated-b+0-1.conf": B},
    "an entry that is empty": {"updated-a.conf": A, "updated-b+3-0.conf": b""},
    "two files of a slot": {"updated-a.conf": A, "updated-b+3-0.conf": B, "updated-b.conf": B},
    "the next name is taken": {"updated-a.conf": A, "updated-b+2-0.conf": B, "updated-b+1-1.conf": entry("b", 0)},
    "versions of other lengths": {
        "updated-a.conf": A.replace(b"0000000001", b"10"), "updated-b.conf": B.replace(b"0000000002", b"9")
    },
    "no sort-key in one of them": {"updated-a.conf": A, "updated-b.conf": B.replace(b"sort-key updated\n", b"")},
    "a default against the order": {
        "updated-a.conf": A, "updated-b.conf": B, **choice("LoaderEntryDefault", "updated-a.conf")
    },
    "a default that is on trial": {
        "updated-a.conf": B, "updated-b+1-0.conf": A, **choice("LoaderEntryDefault", "updated-b*")
    },
    "a default that is used up": {
        "updated-a.conf": B, "updated-b+0-1.conf": A, **choice("LoaderEntryDefault", "updated-b*")
    },
    "one shot": {"updated-a.conf": B, "updated-b.conf": A, **choice("LoaderEntryOneShot", "updated-b.conf")},
    "one shot that lacks the counter": {
        "updated-a.conf": B, "updated-b+1-0.conf": A, **choice("LoaderEntryOneShot", "updated-b.conf")
    },
    "one shot by a pattern": {
        "updated-a.conf": B, "updated-b+1-0.conf": A, **choice("LoaderEntryOneShot", "updated-b[+.]*")
    },
}  # fmt: skip


def modelled(folder: Path, state: Files) -> tuple[str | None, dict[str, bytes]]:
    """What the model of the loader starts, and what it leaves of the state."""
    esp = folder / "esp"
    entries, efivars = esp / "loader/entries", folder / "efivars"
    for place in (entries, efivars, esp / "updated/a", esp / "updated/b"):
        place.mkdir(parents=True)
    for slot in "ab":
        (esp / "updated" / slot / "linux").touch()
    for name, data in state.items():
        ((efivars if name.endswith(LOADER_GUID) else entries) / name).write_bytes(data)
    started = systemd_boot.Loader(esp, efivars, 252).boots()
    left = {path.name: path.read_bytes() for path in (*entries.iterdir(), *efivars.iterdir())}
    return started, {name: data for name, data in left.items() if not name.endswith(LOADER_GUID) or data[0] & 1}


def test_the_model_of_the_loader_tells_the_truth(tmp_path: Path) -> None:
    model: dict[str, tuple[str | None, dict[str, bytes]]] = {}
    real: dict[str, tuple[str | None, dict[str, bytes]]] = {}
    for name, (booted, files) in zip(STATES, boot_each(SystemdBootLoader(), STATES.values()), strict=True):
        real[name] = booted.slot, files
        model[name] = modelled(tmp_path / str(len(model)), STATES[name])
    assert real == model


def test_the_states_that_a_cut_left_can_be_booted() -> None:
    states = [{"updated-a.conf": A, "updated-b+1-0.conf": B}, {"updated-a.conf": A}]
    assert boot_states("systemd_boot", states) == ["b", "a"]
