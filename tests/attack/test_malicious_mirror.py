"""Malicious mirrors: as long as one place is honest, no other one that the node knows keeps it from updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.hurry import hurried
from tests.attack.signing import DAY, NOW
from tests.attack.world import Mirror, Workshop, World, blobs_of
from tests.attack.world import world as make_world
from tests.http.server import Answer, hang_up, ranged, redirect, status, truncated


@pytest.fixture(scope="module")
def two_mirrors(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The node asks `mirror` first, and knows an honest second one; 1.1.0 is shipped."""
    with make_world(workshop, tmp_path_factory.mktemp("mirrors"), mirrors=2) as made:
        made.ship("1.0.0", "1.1.0")
        yield made


@pytest.fixture
def shared(two_mirrors: World) -> World:
    """The node, as if it had never asked before."""
    for mirror in two_mirrors.mirrors:
        mirror.lies.clear()
        mirror.shows(two_mirrors.publisher)
    two_mirrors.node.forget()
    return two_mirrors


@pytest.fixture
def two(workshop: Workshop, tmp_path: Path) -> Iterator[World]:
    """A node of its own, which knows two mirrors; 1.1.0 is shipped."""
    with make_world(workshop, tmp_path, mirrors=2) as made:
        made.ship("1.0.0", "1.1.0")
        yield made


def flipped(data: bytes) -> bytes:
    """The content with one other byte in the middle, and all over a long one."""
    changed = bytearray(data)
    for at in range(len(data) // 2, len(data), 4096):
        changed[at] ^= 0xFF
    return bytes(changed)


def lies(*patterns: str) -> Callable[[Mirror], None]:
    """The mirror changes these files."""

    def begin(mirror: Mirror) -> None:
        mirror.lies.update(dict.fromkeys(patterns, lambda true: ranged(flipped(true))))

    return begin


def answers(answer: Answer) -> Callable[[Mirror], None]:
    """The mirror answers everything so."""
    return lambda mirror: mirror.lies.update({"*": lambda true: answer})


ATTACKS: dict[str, Callable[[Mirror], None]] = {
    "nothing is there": answers(status(404)),
    "it hangs up": answers(hang_up),
    "each answer is an error": answers(status(503)),
    "each answer breaks off": answers(truncated(b"{", 1000)),
    "each answer leads away": answers(redirect("http://elsewhere/")),
    "a false timestamp": lies("metadata/timestamp.json"),
    "a false snapshot": lies("metadata/*.snapshot.json"),
    "a false channel role": lies("metadata/*.stable.json"),
    "a false channel": lies("targets/channels/*"),
    "a false release": lies("targets/releases/*.1.1.0.json"),
    "a root where there is none": lambda mirror: mirror.replace("metadata/2.root.json", b"{}"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_release_is_found_past_a_malicious_mirror(shared: World, name: str) -> None:
    ATTACKS[name](shared.mirror)
    with hurried():
        shared.node.sees("1.1.0")


def test_a_second_mirror_that_has_a_root_where_there_is_none_is_not_believed_either(shared: World) -> None:
    """The first says that it has no newer root, so the second is asked for it."""
    shared.mirrors[1].replace("metadata/2.root.json", b"{}")
    shared.node.sees("1.1.0")


IMAGES: dict[str, Callable[[World], None]] = {
    "no images": lambda world: world.mirror.hide("blobs/*"),
    "false images": lambda world: lies(*blobs_of(world.workshop.manifest("1.1.0")))(world.mirror),
    "all is false": lambda world: lies("*")(world.mirror),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_update_comes_past_a_malicious_first_mirror(two: World, name: str) -> None:
    IMAGES[name](two)
    with hurried():
        two.node.updates()


def test_a_mirror_that_shows_an_older_repository_is_passed_by(two: World) -> None:
    older = two.thief()
    two.ship("1.0.0")
    two.node.finds_nothing()
    two.ship("1.0.0", "1.1.0")
    two.mirror.shows(older)
    two.node.sees("1.1.0")


def test_a_mirror_that_hides_what_is_new_is_believed_until_its_timestamp_expires(two: World) -> None:
    two.mirror.shows(two.thief())
    two.ship("1.0.0", "1.1.0", "1.2.0", at=NOW + 2 * DAY)
    two.node.sees("1.1.0", at=NOW + 2 * DAY)
    two.node.sees("1.2.0", at=NOW + 3 * DAY)


def test_when_no_mirror_is_honest_that_is_told(shared: World) -> None:
    for mirror in shared.mirrors:
        lies("metadata/timestamp.json")(mirror)
    shared.node.refuses_untouched("metadata-invalid", "metadata/timestamp.json: does not verify")
