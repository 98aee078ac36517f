"""A bad state partition, root of trust, or company: history may be lost, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.bench import FAILED, Bench, bench, flip
from tests.node.world import Publisher
from updated import record
from updated.config import read_settings
from updated.core.saved import format_state
from updated.core.state import Phase, Target
from updated.engine import Engine

NOWHERE = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def saved(node: Bench) -> dict[str, Any]:
    """The newest whole state, as it lies on the disk."""
    path = node.machine.state / "state"
    for name in (path, Path(record.previous(str(path)))):
        try:
            document: dict[str, Any] = json.loads(name.read_bytes().partition(b"\n")[2])
        except ValueError:
            continue
        return document
    raise AssertionError("there is no state")


# ------------------------------------------------------------------------------------------------ a damaged state


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no byte": lambda data: b"", "zeros": lambda data: bytes(len(data)), "cut": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_read_from_the_one_before(node: Bench, damage: str) -> None:
    node.once()
    seed = saved(node)["seed"]
    path = node.machine.state / "state"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    node.ship()
    node.updates()
    assert saved(node)["seed"] == seed
    assert node.status()["notes"] == []


@pytest.mark.parametrize("damage", ["no byte"])
def test_a_state_of_which_both_copies_are_damaged_is_set_aside_and_the_node_goes_on(node: Bench, damage: str) -> None:
    node.once()
    path = node.machine.state / "state"
    for name in ("state", "state.previous"):
        path.with_name(name).write_bytes(DAMAGES[damage](path.read_bytes()))
    node.ship()
    text = node.once()
    assert "both its copies are damaged. It is set aside and begun anew." in text
    assert "1.1.0 is staged and boots next" in text
    assert path.with_name("state.damaged").exists()
    assert path.with_name("state.previous.damaged").exists()
    assert saved(node)["target"]["version"] == "1.1.0"


def test_a_whole_record_that_is_no_state_is_set_aside(node: Bench) -> None:
    node.once()
    path = str(node.machine.state / "state")
    for _ in range(2):
        record.write(path, {**saved(node), "facts": "none"})
    node.ship()
    assert "the saved state: facts is not an object. It is set aside" in node.once()


def test_damaged_floors_are_begun_anew_with_a_note(node: Bench) -> None:
    node.once()
    for name in ("floors", "floors.previous"):
        path = node.machine.state / "fetch/store" / name
        if path.exists():
            flip(path)
    node.ship()
    node.updates()
    (note,) = node.status()["notes"]
    assert "is damaged" in note
    assert "was set aside" in note


def test_a_damaged_cache_of_metadata_is_fetched_again(node: Bench) -> None:
    node.once()
    for path in (node.machine.state / "fetch/store").glob("*.json"):
        path.write_bytes(b"")
    node.ship()
    node.updates()


def test_garbage_from_the_health_check_is_ignored(node: Bench) -> None:
    folder = node.machine.state / "health"
    for name in ("rejected.json", "verdict.json"):
        (folder / name).write_bytes(b'{"slot": "b", "checks": [{"name": "\\ud800"')
    node.ship()
    node.updates()


# ---------------------------------------------------------------------------------------------------- a full disk


def once_on_a_small_disk(node: Bench, room: int) -> str:
    """A cycle with a state partition that has `room` bytes left: a tmpfs of a mount namespace of its own."""
    state = node.machine.state
    kept = node.machine.folder / "kept"
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in state.rglob("*") if path.is_file())
    script = (
        'cp -a "$1" "$2" && mount -t tmpfs -o size=$3 tmpfs "$1" && cp -a "$2/." "$1" && rm -rf "$2" && '
        'exec "$4" -m updated --root "$5" --once'
    )
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", script, "sh",
         str(state), str(kept), str(used + room), sys.executable, str(node.root)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return node.judged(done, FAILED)


@pytest.mark.parametrize("room", [0, 4, 16], ids=lambda pages: f"{pages} pages")
def test_a_full_state_partition_stops_the_update_and_nothing_else(node: Bench, room: int) -> None:
    node.once()
    node.ship()
    node.refuses(
        "disk-full", "there is no space left on its file system", "Free some space there",
        run=lambda expected: once_on_a_small_disk(node, room * 4096),
    )
    assert node.active().boots_next == "rootfs-a"
    assert "there is no space left" in node.status()["summary"], "that is where the node stands"
    if room == 16:
        node.updates()


def test_a_full_state_partition_is_told_also_where_an_update_had_begun(node: Bench) -> None:
    """Nothing is at work there, although the state says so."""
    node.ship()
    engine = Engine(read_settings(str(node.root)))
    passive = Target("1.1.0", "0" * 64, "b")
    path = str(node.machine.state / "state")
    record.write(path, format_state(engine.state.with_changes(phase=Phase.FETCHING, target=passive)))
    text = node.refuses("disk-full", "Free some space", run=lambda expected: once_on_a_small_disk(node, 0))
    assert "is being written" not in text
    node.updates()


def test_a_state_partition_that_is_full_from_the_beginning_is_told(node: Bench) -> None:
    node.ship()
    node.refuses("disk-full", "Free some space", run=lambda expected: once_on_a_small_disk(node, 4096))
    node.updates()


def test_what_could_not_be_saved_is_taken_up_when_there_is_room_again(node: Bench) -> None:
    """The outcome of a check that can't be saved would otherwise be waited for without end."""
    node.ship()
    path = node.machine.state / "state"
    away = path.with_name("away")

    async def live() -> None:
        engine = Engine(read_settings(str(node.root)))
        work = asyncio.create_task(engine.run())
        try:
            engine.start()
            engine.tick()
            path.rename(away)
            path.mkdir()  # a disk that takes nothing any more
            await engine.rest()
            assert engine.state.phase is Phase.CHECKING
            assert node.status()["error"]["code"] == "disk-error"
            path.rmdir()
            away.rename(path)
            engine.tick()
            await engine.rest()
            assert node.status()["error"] is None
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(live())
    assert node.active().boots_next == "rootfs-b"


# --------------------------------------------------------------------------------------------- the root of trust


@pytest.fixture
def pinned(shared: Bench) -> Iterator[Path]:
    """The root of trust, which comes back after the test."""
    path = shared.root / "usr/share/updated/root.json"
    right = path.read_bytes()
    yield path
    path.write_bytes(right)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"signed": {}, "signatures": []}'])
def test_a_root_of_trust_that_is_none_is_named(shared: Bench, pinned: Path, garbage: bytes) -> None:
    pinned.write_bytes(garbage)
    shared.refuses_untouched("no-root-of-trust", f"the pinned root metadata {pinned}: ")


def test_a_root_of_trust_that_is_missing_is_named(shared: Bench, pinned: Path) -> None:
    pinned.unlink()
    shared.refuses_untouched(
        "no-root-of-trust", f"the pinned root metadata {pinned}", "releasectl export-root writes it"
    )


def test_the_root_of_trust_of_another_repository_is_refused(shared: Bench, pinned: Path, tmp_path: Path) -> None:
    pinned.write_bytes(Publisher(tmp_path).root_of_trust())
    shared.refuses_untouched("metadata-invalid", "does not verify")


def test_with_the_right_root_of_trust_the_node_updates(shared: Bench, pinned: Path) -> None:
    shared.updates()


# ------------------------------------------------------------------------------------------------------- company


def test_a_second_process_is_refused_and_the_first_one_keeps_its_status(node: Bench) -> None:
    node.machine.environment = NOWHERE
    node.machine.start_daemon()
    status = node.root / "run/updated/status.json"
    node.machine.wait_until(lambda: status.exists() and node.status()["last_check"] is not None)
    before = node.status()
    text = node.once(FAILED)
    assert text == (
        "updated: this node: is looked after by another process. "
        "Use updatectl, or end the other one: systemctl stop updated.\n"
    )
    assert node.status() == before
    node.machine.stop_daemon()
    node.ship()
    node.updates()
