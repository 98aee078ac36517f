"""An exported cycle is a repository: another process comes to the same result from it, and trusts nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.world import STABLE, World
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource

RELEASE = "releases/1.0.0.json"


def _exported(world: World, name: str = "export") -> DirectorySource:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
        trust.target(RELEASE, 100)
        trust.export(str(world.folder / name))
    return DirectorySource(str(world.folder / name))


def _check(world: World, source: DirectorySource, expected: bytes) -> None:
    with world.cycle(source=source, store="second") as trust:
        assert trust.target(STABLE, 100) == expected
        assert trust.target(RELEASE, 100) == b"release 1.0.0"


def test_another_store_gets_the_same_targets(world: World) -> None:
    _check(world, _exported(world), b"stable, first")


def test_another_store_at_the_same_versions_gets_the_same_targets(world: World) -> None:
    source = _exported(world)
    _check(world, source, b"stable, first")
    _check(world, source, b"stable, first")
    _check(world, _exported(world), b"stable, first")


@pytest.mark.parametrize("folder", ["export", "export-{}"])
def test_it_holds_over_many_cycles_with_rotated_keys(world: World, folder: str) -> None:
    for number in range(4):
        if number:
            world.repository.rotate_key(("root", "timestamp", "stable")[number - 1])
            world.repository.rotate_key("root")
        world.change(f"stable, {number}".encode())
        _check(world, _exported(world, folder.format(number)), f"stable, {number}".encode())


def test_a_store_that_missed_cycles_catches_up(world: World) -> None:
    _check(world, _exported(world), b"stable, first")
    for _ in range(3):
        world.repository.rotate_key("root")
        world.change(b"stable, later")
        source = _exported(world)
    _check(world, source, b"stable, later")


def test_the_files_are_byte_for_byte_those_of_the_publisher(world: World) -> None:
    world.repository.rotate_key("root")
    world.repository.publish()
    _exported(world)
    export = world.folder / "export"
    found = {path.relative_to(export) for path in export.rglob("*") if path.is_file()}
    digests = [world.repository.target_name(role, path) for role, path in (("stable", STABLE), ("releases", RELEASE))]
    assert {str(path) for path in found} == {
        "metadata/1.root.json", "metadata/2.root.json", "metadata/timestamp.json", "metadata/2.snapshot.json",
        "metadata/1.targets.json", "metadata/1.stable.json", "metadata/1.releases.json", *digests,
    }
    for path in found:
        assert (export / path).read_bytes() == Path(world.repository.directory, path).read_bytes()


def test_what_was_changed_in_the_export_is_refused(world: World) -> None:
    source = _exported(world)
    for path in sorted((world.folder / "export").rglob("*.json")):
        if path.name == "1.root.json":
            continue
        original = path.read_bytes()
        path.write_bytes(original.replace(b"1", b"2", 1) if b"1" in original else b"X" + original[1:])
        with pytest.raises(UpdatedError), world.cycle(source=source, store=f"fresh-{path.name}") as trust:
            _ = trust.target(STABLE, 100), trust.target(RELEASE, 100)
        path.write_bytes(original)


def test_an_export_of_older_metadata_is_refused_by_a_newer_store(world: World) -> None:
    old = _exported(world, "old")
    world.change()
    _check(world, _exported(world, "new"), b"stable, changed")
    with pytest.raises(UpdatedError) as refused, world.cycle(source=old, store="second"):
        pass
    assert refused.value.code == "metadata-rolled-back"


def test_a_role_can_t_name_a_place_outside_of_the_export(world: World) -> None:
    world.repository.delegate("targets", "../../../evil", ["evil/*"])
    world.repository.sign_target("../../../evil", "evil/x", b"x")
    world.repository.publish()
    with world.cycle() as trust:
        assert trust.target("evil/x", 10) == b"x"
        trust.export(str(world.folder / "inner/export"))
    (exported,) = (world.folder / "inner").rglob("*evil.json")
    assert exported == world.folder / "inner/export/metadata/1...%2F..%2F..%2Fevil.json"
    with world.cycle(source=DirectorySource(str(world.folder / "inner/export")), store="second") as trust:
        assert trust.target("evil/x", 10) == b"x"


def test_an_export_to_an_impossible_place_is_a_disk_error(world: World) -> None:
    (world.folder / "file").write_bytes(b"")
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.export(str(world.folder / "file"))
    assert refused.value.code == "disk-error"
