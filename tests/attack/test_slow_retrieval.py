"""Slow retrieval: a server that feeds a node by drops is left, told by name, and hinders no other server.

The limits of time are a fraction of the real ones here (`hurry`); it is their code that is tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.hurry import hurried
from tests.attack.world import Workshop, World, blobs_of
from tests.attack.world import world as make_world
from tests.http.server import Answer, Handler, drip, silence

MOST_SECONDS = 20.0
"""Where a test ends what would go on for ever."""
PAUSE = 0.02


def drops(handler: Handler, drop: bytes) -> None:
    """Sends `drop` again and again, until the node leaves."""
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        handler.wfile.write(drop)
        time.sleep(PAUSE)
    handler.hang_up()


def slow_head(handler: Handler) -> None:
    """A head that comes by drops, and never to its end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Patience: ")
    drops(handler, b"x")


def promises(handler: Handler) -> None:
    """One head after the other that says that the answer is still to come (RFC 9110, 15.2.1)."""
    drops(handler, b"HTTP/1.1 100 Continue\r\n\r\n")


SLOW: dict[str, Callable[[bytes], Answer]] = {
    "by drops": lambda true: drip(true or bytes(1000), PAUSE),
    "silence": lambda true: silence(MOST_SECONDS / 4),
    "silence after a piece": lambda true: silence(MOST_SECONDS / 4, true[:10]),
    "a head by drops": lambda true: slow_head,
    "a promise of an answer, again and again": lambda true: promises,
}


@pytest.fixture(scope="module")
def one_mirror(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(workshop, tmp_path_factory.mktemp("slow")) as made:
        made.ship("1.0.0", "1.1.0")
        yield made


@pytest.fixture
def shared(one_mirror: World) -> World:
    """One node for all that is refused; it has no manifest and no index at hand."""
    one_mirror.end_attack()
    one_mirror.node.forget()
    return one_mirror


@pytest.mark.parametrize("how", SLOW)
def test_a_server_that_feeds_by_drops_is_too_slow(shared: World, how: str) -> None:
    shared.mirror.lies["metadata/timestamp.json"] = SLOW[how]
    with hurried():
        shared.node.refuses_untouched("too-slow", "metadata/timestamp.json")


@pytest.mark.parametrize("part", ["manifest", "index", "blob"])
def test_each_file_is_guarded(shared: World, part: str) -> None:
    index, blob = blobs_of(shared.workshop.manifest("1.1.0"))
    name = {"manifest": "targets/releases/*.1.1.0.json", "index": index, "blob": blob}[part]
    shared.mirror.lies[name] = SLOW["by drops"]
    with hurried():
        shared.node.refuses("too-slow", name.rpartition("*")[2])


def test_when_the_server_is_well_again_the_update_goes_on(shared: World) -> None:
    shared.node.updates()


@pytest.mark.parametrize("how", ["by drops", "a head by drops", "a promise of an answer, again and again"])
def test_a_slow_first_mirror_hinders_no_other(workshop: Workshop, tmp_path: Path, how: str) -> None:
    with make_world(workshop, tmp_path, mirrors=2) as world:
        world.mirror.lies["*"] = SLOW[how]
        with hurried():
            world.node.finds_nothing("1.0.0 is the newest release")
