"""A downloader that was taken over says that all went well: nothing of it boots, and the node goes on.

It stands in for the whole child, before anything is given up: what holds it then is what `seal` and the daemon check.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from bootctl import gpt
from tests.node.bench import FAILED, NEW, OLD, Bench, bench
from tests.node.images import make_image
from tests.node.stand_in import stand_in
from tests.node.world import Publisher, program_for_everybody
from tests.packaging.shipped import REPOSITORY
from tests.processes import lives

HOSTILE = Path(__file__).with_name("hostile.py")


def take_over(node: Bench, deed: str, **means: object) -> None:
    """From now on, fetch is hostile."""
    folder = node.machine.folder.parent
    node.machine.environment = {
        **stand_in(folder, "fetch", "updated.child", HOSTILE, REPOSITORY),
        "DEED": deed, "MEANS": json.dumps({key: str(value) for key, value in means.items()}),
    }  # fmt: skip


def is_refused(node: Bench, code: str | set[str], *words: str, next_version: str = NEW) -> None:
    """The error is named; what runs is untouched and boots again; and an honest fetch succeeds after that."""
    before = node.active().content
    text = node.once(FAILED)
    found = node.status()["error"]["code"]
    assert found in ({code} if isinstance(code, str) else code), text
    node.tells(text, found, *words)
    after = node.active()
    assert (after.boots_next, after.content == before) == ("rootfs-a", True)
    node.machine.environment = {}
    assert node.machine.power_on() == "a"
    assert node.machine.boots == ["a", "a"]
    node.updates(next_version)


def manifest(node: Bench, version: str) -> str:
    (path,) = (node.repository / "targets/releases").glob(f"*.{version}.json")
    return path.name.partition(".")[0]


# ------------------------------------------------------------------------------------------------ what is in the slot


def test_a_forged_slot_is_not_booted(node: Bench, tmp_path: Path) -> None:
    forged = make_image(tmp_path, "6.6.6", size=150_000, seed=6)
    take_over(node, "another image", image=forged)
    is_refused(node, "slot-differs", "component rootfs in slot b", "is signed")


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_slot_of_which_one_bit_changed_after_the_download_is_not_booted(node: Bench, place: str) -> None:
    size = node.component()["size"]
    take_over(node, "one byte", place={"first": 0, "last": size - 1}[place])
    is_refused(node, "slot-differs")


def test_half_an_image_is_not_booted(node: Bench) -> None:
    take_over(node, "half an image", size=node.component()["size"])
    is_refused(node, "slot-differs")


def test_a_download_that_never_was_is_not_booted(node: Bench) -> None:
    take_over(node, "nothing")
    is_refused(node, "not-found", "export/metadata")


# -------------------------------------------------------------------------------------------- what is said to be signed


def test_what_others_signed_is_not_booted(node: Bench, tmp_path: Path) -> None:
    other = Publisher(tmp_path / "other")
    other.images[NEW] = make_image(tmp_path, "6.6.6", size=150_000, seed=6)
    other.release(NEW, channels=("stable",), patches=0)
    root = tmp_path / "other-root.json"
    root.write_bytes(other.root_of_trust())
    take_over(node, "another repository", url=other.repository.as_uri(), root=root)
    is_refused(node, "metadata-invalid", "does not verify")


def ships_a_newer_one(node: Bench, tmp_path: Path) -> Path:
    """1.1.0 and 1.2.0, of which the node has seen and sealed the newer; the repository before that."""
    before = tmp_path / "before"
    shutil.copytree(node.repository, before)
    node.ship("1.2.0")
    assert "1.2.0 is staged" in node.once()
    node.ship("1.3.0")
    return before


def test_an_old_release_with_its_genuine_old_metadata_is_not_booted(node: Bench, tmp_path: Path) -> None:
    old = {"as": "1.3.0", "version": NEW, "manifest": manifest(node, NEW)}
    take_over(node, "old repository", url=ships_a_newer_one(node, tmp_path).as_uri(), **old)
    is_refused(node, "metadata-rolled-back", next_version="1.3.0")


def test_an_old_release_under_a_new_number_is_not_booted(node: Bench, tmp_path: Path) -> None:
    ships_a_newer_one(node, tmp_path)
    old = {"as": "1.3.0", "version": NEW, "manifest": manifest(node, NEW)}
    take_over(node, "old repository", url=node.repository.as_uri(), **old)
    is_refused(node, "no-such-target", "release 1.3.0", next_version="1.3.0")


def test_an_offer_of_what_runs_is_no_offer(node: Bench) -> None:
    take_over(node, "old release", version=OLD, manifest=manifest(node, OLD))
    node.refuses_untouched("child-failed", "offer.version is not newer than what runs")
    node.machine.environment = {}
    node.updates()


def test_what_is_always_said_to_be_urgent_is_not_written_and_sealed_anew_at_each_check(node: Bench) -> None:
    node.ship()
    take_over(node, "urgent")
    node.updates()
    before = node.disk_content()
    for _ in range(2):
        node.updates()
    past = [json.loads(line)["kind"] for line in (node.root / "var/lib/updated/history.jsonl").read_text().splitlines()]
    assert past == ["install", "staged"]
    assert node.disk_content() == before


# --------------------------------------------------------------------------------------------- the folder of the export

TIMESTAMP = "metadata/timestamp.json"


@pytest.mark.parametrize(
    ("name", "kind", "to"),
    [
        (TIMESTAMP, "link", "/etc/shadow"), (TIMESTAMP, "link", "/dev/zero"), (TIMESTAMP, "pipe", ""),
        (TIMESTAMP, "folder", ""), (TIMESTAMP, "huge file", ""), ("metadata", "link", "/"), ("", "link", "/"),
        ("", "pipe", ""),
    ],
)  # fmt: skip
def test_an_export_that_is_no_folder_of_plain_files_is_refused(node: Bench, name: str, kind: str, to: str) -> None:
    take_over(node, "export", name=name, to=to, **{"with": kind})
    # Where a link leads is out of reach by Landlock; without it, it is no metadata.
    codes = {"bad-repository", "disk-error", "not-found", "too-long", "metadata-invalid"}
    is_refused(node, codes, "metadata/timestamp.json")


# ------------------------------------------------------------------------------------------------ who stays behind

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a child as another user")


@needs_root
def test_who_stays_behind_with_the_slot_open_is_gone_before_it_is_sealed() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = program_for_everybody(folder)
        hostile = folder / "hostile.py"
        shutil.copy(HOSTILE, hostile)
        with bench(folder / "bench") as node:
            node.ship()
            (folder / "bench").chmod(0o755)
            # A user that every Debian has, and that no other test runs as: all its processes are ended.
            news = pwd.getpwnam("news")
            node.machine.write_config(node.machine.config.replace('user = ""', 'user = "news"'))
            left = folder / "left"
            left.mkdir()
            shutil.chown(left, news.pw_uid)
            environment = {
                **os.environ, **stand_in(folder, "fetch", "updated.child", hostile, program),
                "DEED": "somebody behind", "MEANS": json.dumps({"pid": str(left / "pid")}),
            }  # fmt: skip
            done = subprocess.run(
                ["/usr/bin/python3", "-m", "updated", "--root", str(node.root), "--once"],
                env=environment, capture_output=True, text=True, timeout=120, check=False,
            )
            assert "1.1.0 is staged and boots next" in done.stdout, done.stdout + done.stderr
            pid = int((left / "pid").read_text())
            assert not lives(pid)
            assert content(node) == node.publisher.image(NEW).read_bytes()
            assert node.machine.power_on() == "b"


def content(node: Bench) -> bytes:
    """What slot b holds of the image."""
    with node.machine.disk.open("rb") as disk:
        table = gpt.read_table(disk.fileno())
        disk.seek(table.partition("rootfs-b").offset(table.sector_size))
        return disk.read(node.component()["size"])


# ------------------------------------------------------------------------------------------------ what it says

GOOD: dict[str, Any] = {
    "type": "result", "peak_memory_bytes": 1, "offer": None, "reasons": [], "expiries": {},
    "lifetimes": {}, "expired": {}, "notes": [],
}  # fmt: skip
GENUINE = {"version": "1.1.0", "manifest": "0" * 64, "size": 1, "urgent": False}


def line(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode() + b"\n"


NONSENSE = {
    "nothing": b"",
    "no JSON": b"hello\n",
    "no end of the line": b"{" + b" " * (3 << 20),
    "deeply nested within": b'{"type": "result", "notes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "a huge number": b'{"type": "result", "peak_memory_bytes": ' + b"9" * 100_000 + b"}\n",
    "not a number": b'{"type": "result", "expiries": {"root": NaN}}\n',
    "a type of another type": b'{"type": ["result"]}\n',
    "an offer of another type": line(offer=[1]),
    "a version that is a path": line(offer={**GENUINE, "version": "../../etc/passwd"}),
    "a manifest that is a path": line(offer={**GENUINE, "manifest": "../" * 21 + "x"}),
    "a negative size": line(offer={**GENUINE, "size": -1}),
    "a role that is a path": line(expiries={"../../x": 1}),
    "notes that are no list": line(notes="x"),
    "a component that is a path": b'{"type": "progress", "step": "copy", "component": "../x", "done": 1, "total": 2}\n',
    "more than all": b'{"type": "progress", "step": "copy", "component": "rootfs", "done": 3, "total": 2}\n',
    "a plan for a path": b'{"type": "plan", "component": "/etc", "text": "x"}\n',
}


@pytest.mark.parametrize("words", NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_does_not_fit_is_refused(shared: Bench, tmp_path: Path, words: bytes) -> None:
    (tmp_path / "words").write_bytes(words)
    take_over(shared, "words", words=tmp_path / "words")
    shared.refuses_untouched("child-failed", "updated fetch")
    shared.machine.environment = {}


@pytest.mark.parametrize(
    "error",
    [None, {"code": "no-such-code", "what": "a", "cause": "b", "mend": "c"}, {"code": ["internal"], "what": 1}],
)
def test_an_error_that_does_not_fit_is_told_as_one(shared: Bench, tmp_path: Path, error: object) -> None:
    (tmp_path / "words").write_bytes(json.dumps({"type": "error", "error": error}).encode() + b"\n")
    take_over(shared, "words", words=tmp_path / "words")
    shared.refuses_untouched("internal", "an error report")
    shared.machine.environment = {}


def test_the_words_of_a_hostile_error_stay_on_one_line(shared: Bench, tmp_path: Path) -> None:
    error = {"code": "unreachable", "what": "a\x1b[2J\nupdated: all is well", "cause": "x" * 100_000, "mend": "\u2028"}
    (tmp_path / "words").write_bytes(json.dumps({"type": "error", "error": error}).encode() + b"\n")
    take_over(shared, "words", words=tmp_path / "words")
    text = shared.once(FAILED)
    assert "\x1b" not in text
    assert "\nupdated: all is well" not in text
    assert len(text) < 10_000
    shared.machine.environment = {}


def test_after_all_that_nonsense_the_node_updates(shared: Bench) -> None:
    shared.machine.environment = {}
    shared.updates()
    assert shared.machine.power_on() == "b"
