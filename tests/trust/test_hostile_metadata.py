"""Whatever stands in a file, signed or not, given out or cached: refused, and nothing that protects is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trust.hostile import ROLES, next_file, refused, state
from tests.trust.world import NOW, STABLE, World
from updated.core.errors import UpdatedError
from updated.core.floors import Floors
from updated.tufclient import CONFIG

# ---------------------------------------------------------------------------------------------- in the bytes of a file

NESTED = b'{"signed": ' + b"[" * 15_000 + b"]" * 15_000 + b', "signatures": []}'


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "change",
    [
        lambda data: NESTED if len(NESTED) < 16_384 else NESTED[:16_000],
        lambda data: b"[" * 15_000,
        lambda data: data.replace(b'"version":', b'"version":1' + b"0" * 5000 + b',"x":'),
        lambda data: data.replace(b'"version":', b'"version":1' + b"0" * 4000 + b',"x":'),
        lambda data: data.replace(b'"version":', b'"version":NaN,"x":'),
        lambda data: data.replace(b'"version":', b'"version":Infinity,"x":'),
        lambda data: data.replace(b'"version":', b'"version":1e400,"x":'),
        lambda data: data.replace(b'"version":', b'"version":-1,"x":'),
        lambda data: data.replace(b'"_type"', b'"\xff\xfe"'),
        lambda data: data.replace(b'"_type":', b'"\\ud800":"\\udfff","_type":'),
        lambda data: data.replace(b'"expires":"', b'"expires":"99999-'),
        lambda data: data.replace(b'"spec_version":"1', b'"spec_version":"9'),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data[: len(data) // 2],
        lambda data: data + b"{}",
        lambda data: data.replace(b'"signatures":[', b'"signatures":[' + b'{"keyid":"x","sig":"zz"},' * 2),
        lambda data: b"null",
    ],
    ids=[
        "nested", "nested without end", "5000 digits", "4000 digits", "NaN", "infinity", "a large float",
        "negative version", "not UTF-8", "surrogates", "year 99999", "another specification", "byte order mark",
        "UTF-16", "half a file", "two documents", "signatures of one key twice", "null",
    ],
)  # fmt: skip
def test_a_file_that_nobody_signed_so_is_refused(
    world: World, role: str, change: Callable[[bytes], bytes]
) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    file = Path(world.repository.directory, next_file(world, role))
    signed = file.read_bytes()
    file.write_bytes(change(signed))
    error = refused(world)
    assert error.code in ("metadata-invalid", "too-long")
    assert f"{role}.json" in str(error)
    file.write_bytes(signed)
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, first"


@pytest.mark.parametrize(("role", "limit"), [
    ("root", 512_000), ("timestamp", 16_384), ("snapshot", 2_000_000), ("targets", 5_000_000), ("stable", 5_000_000),
])  # fmt: skip
def test_a_file_beyond_its_limit_is_refused_whatever_its_length_was_said_to_be(
    world: World, role: str, limit: int
) -> None:
    name = next_file(world, role)
    file = Path(world.repository.directory, name)
    file.write_bytes(file.read_bytes() + b" " * limit)
    assert refused(world).code == "too-long"


# ---------------------------------------------------------------------------------------------- in what a thief signed


@pytest.mark.parametrize(
    ("role", "version"),
    [*((role, 2**53 + 1) for role in ROLES[1:]), ("timestamp", 10**400)],
)
def test_who_stole_one_key_can_not_make_a_node_forget_its_floors(world: World, role: str, version: int) -> None:
    """A version that the record can't hold would make it unreadable, and all floors would be gone."""
    with world.cycle() as trust:
        trust.raise_release_floor("7.0.0")
    before = state(world.store)["floors"]
    world.repository.versions[role] = version
    world.repository._dirty |= {role} & set(world.repository.contents)
    world.repository.publish()
    assert refused(world).code == "metadata-invalid"
    assert state(world.store)["floors"] == before
    with world.unrefreshed() as trust:
        assert trust.notes == []
        assert trust.release_floor == "7.0.0"


@pytest.mark.parametrize(
    "floors",
    [
        Floors(versions={f"{number:0100}": 1 for number in range(40_000)}),
        Floors(versions={"half a character: \ud800": 1}),
        Floors(versions={"x": 2**53 + 1}),
        Floors(keys={"root": frozenset({"\udfff"})}),
        Floors(release="1." * 40),
    ],
    ids=["too many roles", "half a character in a role", "too large a version", "half a character in a key", "release"],
)
def test_floors_that_could_not_be_read_again_are_not_written(world: World, floors: Floors) -> None:
    with world.cycle():
        pass
    before = state(world.store)
    with world.unrefreshed() as trust, pytest.raises(UpdatedError) as caught:
        trust._record.write(floors)
    assert caught.value.code == "metadata-invalid"
    assert state(world.store) == before


def test_a_chain_of_roots_without_end_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG, "max_root_rotations", 4)
    for _ in range(6):
        world.repository._dirty.add("root")
        world.repository.publish()
    for _ in range(2):
        with world.cycle() as trust:
            assert trust.versions()["root"] == 5


# ------------------------------------------------------------------------------------------------- in the node's cache

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "garbage": lambda data: os.urandom(len(data)),
    "zeroes": lambda data: bytes(len(data)),
    "nested": lambda data: b"[" * 15_000,
    "null": lambda data: b"null",
    "altered": lambda data: data.replace(b'"version":', b'"version":1', 1),
    "unsigned": lambda data: json.dumps(json.loads(data) | {"signatures": []}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["root_history/1.root.json", "root_history/2.root.json", "timestamp.json", "snapshot.json", "targets.json",
             "stable.json"],
)  # fmt: skip
def test_a_damaged_cached_file_loses_no_protection_and_hinders_nothing(world: World, name: str, damage: str) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    oldest = world.repository.saved()
    next_file(world, "stable")
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    newest = world.repository.saved()
    file = world.store / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    world.repository.restore(oldest)
    assert refused(world).code == "metadata-rolled-back"
    world.repository.restore(newest)
    with world.cycle(system=NOW) as trust:
        assert trust.notes == []
        assert trust.target(STABLE, 100) == b"stable, first"
