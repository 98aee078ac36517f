"""The promises of a cycle: what is got is what was signed, and each fault says what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from tests.fakes.repository import TOP_ROLES
from tests.trust.world import DAY, NOW, STABLE, World
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource
from updated.trust import Clock, Trust
from updated.tufclient import CONFIG


def test_a_target_is_the_bytes_that_were_signed(world: World) -> None:
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, first"
        assert trust.target("releases/1.0.0.json", 100) == b"release 1.0.0"


def test_a_later_cycle_sees_what_the_publisher_changed(world: World) -> None:
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, first"
    world.change(b"stable, second")
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, second"
        assert trust.versions() == {
            "root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "releases": 1, "stable": 2, "beta": 1, "alpha": 1,
        }


def test_a_cycle_sees_one_state_of_the_repository(world: World) -> None:
    with world.cycle() as trust:
        world.change(b"stable, second")
        trust.refresh()
        assert trust.target(STABLE, 100) == b"stable, first"


def test_expiries_are_given_for_the_roles_that_were_read(world: World) -> None:
    with world.cycle() as trust:
        assert trust.expiries() == {
            "root": NOW + 365 * DAY, "timestamp": NOW + 30 * DAY, "snapshot": NOW + 30 * DAY, "targets": NOW + 30 * DAY,
        }
        trust.target(STABLE, 100)
        assert trust.expiries()["stable"] == NOW + 30 * DAY


def test_a_target_that_nobody_signed_is_refused(world: World) -> None:
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target("channels/nightly.json", 100)
    assert refused.value.code == "no-such-target"
    assert "channels/nightly.json" in str(refused.value)


def test_a_channel_key_cant_sign_a_release(world: World) -> None:
    world.repository.contents["alpha"]["releases/6.6.6.json"] = b"forged"
    world.repository.set_target("channels/alpha.json", b"alpha")
    world.repository.publish()
    with world.cycle() as trust:
        assert trust.target("channels/alpha.json", 100) == b"alpha"
        with pytest.raises(UpdatedError) as refused:
            trust.target("releases/6.6.6.json", 100)
    assert refused.value.code == "no-such-target"


@pytest.mark.parametrize("change", [b"stable, FIRST", b"stable", b""])
def test_target_bytes_that_differ_are_refused(world: World, change: bytes) -> None:
    Path(world.repository.directory, world.repository.target_name("stable", STABLE)).write_bytes(change)
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "wrong-digest"


def test_a_target_longer_than_signed_is_not_read_to_its_end(world: World) -> None:
    Path(world.repository.directory, world.repository.target_name("stable", STABLE)).write_bytes(b"x" * 1_000_000)
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "too-long"


def test_a_target_listed_longer_than_the_caller_takes_is_refused(world: World) -> None:
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 5)
    assert refused.value.code == "metadata-invalid"
    assert "at most 5" in str(refused.value)


def test_a_target_before_the_refresh_is_refused(world: World) -> None:
    with world.unrefreshed() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "internal"


def test_a_target_after_a_failed_refresh_is_refused(world: World) -> None:
    with world.cycle():
        pass
    old = world.repository.saved()
    world.change()
    with world.cycle():
        pass
    world.repository.restore(old)
    with world.unrefreshed() as trust:
        with pytest.raises(UpdatedError, match="version"):
            trust.refresh()
        with pytest.raises(UpdatedError) as refused:
            trust.target(STABLE, 100)
    assert refused.value.code == "internal"


def test_root_rotations_are_followed_one_by_one(world: World) -> None:
    with world.cycle():
        pass
    for _ in range(3):
        world.repository.rotate_key("root")
        world.repository.publish()
    with world.cycle() as trust:
        assert trust.versions()["root"] == 4
        assert trust.target(STABLE, 100) == b"stable, first"


def test_a_root_that_too_few_former_keys_signed_is_refused(world: World) -> None:
    repository = world.repository
    repository.keys["root"] = [CryptoSigner.generate_ed25519() for _ in range(3)]
    repository._dirty.add("root")
    repository.publish()
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-invalid"
    assert "2.root.json" in str(refused.value)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable"])
def test_metadata_that_another_key_signed_is_refused(world: World, role: str) -> None:
    world.repository.keys[role] = [CryptoSigner.generate_ed25519()]
    world.repository._dirty.add(role)
    world.repository.publish()
    with pytest.raises(UpdatedError) as refused, world.cycle() as trust:
        trust.target(STABLE, 100)
    assert refused.value.code == "metadata-invalid"
    assert f"{role}.json" in str(refused.value)


def test_the_cached_channel_metadata_is_not_accepted_after_its_key_was_rotated(world: World) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    kept = world.published("stable").read_bytes()
    # The publisher withdraws a stolen key, but the thief's server still gives out what the old key signed.
    world.repository.rotate_key("stable")
    world.repository._dirty.discard("stable")
    world.repository.publish()
    assert (world.store / "stable.json").read_bytes() == kept
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "metadata-invalid"
    assert "1.stable.json" in str(refused.value)


def test_a_rotated_channel_key_is_followed(world: World) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    world.repository.rotate_key("stable")
    world.repository.publish()
    with world.cycle() as trust:
        assert trust.target(STABLE, 100) == b"stable, first"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable"])
@pytest.mark.parametrize(
    "damage",
    [b"", b"\0\xff", b"[]", b"{}", b'{"signed": {}, "signatures": []}', b"[" * 3000, b'{"a":' * 3000, b"1" * 5000],
    ids=["empty", "binary", "list", "no keys", "no type", "nested lists", "nested objects", "long number"],
)
def test_damaged_metadata_is_refused_without_a_traceback(world: World, role: str, damage: bytes) -> None:
    world.published(role).write_bytes(damage)
    with pytest.raises(UpdatedError) as refused, world.cycle() as trust:
        trust.target(STABLE, 100)
    assert refused.value.code in ("metadata-invalid", "too-long")
    assert f"{role}.json" in str(refused.value)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable"])
def test_metadata_without_end_is_refused(world: World, role: str) -> None:
    with world.published(role).open("ab") as file:
        file.write(b" " * 6_000_000)
    with pytest.raises(UpdatedError) as refused, world.cycle() as trust:
        trust.target(STABLE, 100)
    assert refused.value.code == "too-long"


def test_a_node_recovers_by_itself_when_the_repository_is_well_again(world: World) -> None:
    for role in ("timestamp", "snapshot", "targets"):
        world.repository._dirty.add("targets")
        world.repository.publish()
        well = world.repository.saved()
        world.published(role).write_bytes(b"broken")
        with pytest.raises(UpdatedError), world.cycle():
            pass
        world.repository.restore(well)
        with world.cycle() as trust:
            assert trust.target(STABLE, 100) == b"stable, first"


class _Failing(DirectorySource):
    """A source that fails for one name."""

    def __init__(self, directory: str, name: str, error: UpdatedError) -> None:
        super().__init__(directory)
        self._name = name
        self._error = error

    def read(self, name: str, most: int) -> bytes:
        if name == self._name:
            raise self._error
        return super().read(name, most)


@pytest.mark.parametrize(
    "name",
    ["metadata/2.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json",
     "metadata/1.stable.json"],
)
def test_a_network_error_comes_out_as_it_was(world: World, name: str) -> None:
    error = UpdatedError("unreachable", "https://example.org/", "has no route", "Look at the cable.")
    source = _Failing(world.repository.directory, name, error)
    with pytest.raises(UpdatedError) as refused, world.cycle(source=source) as trust:
        trust.target(STABLE, 100)
    assert refused.value is error


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable"])
def test_missing_metadata_is_not_found(world: World, role: str) -> None:
    world.published(role).unlink()
    with pytest.raises(UpdatedError) as refused, world.cycle() as trust:
        trust.target(STABLE, 100)
    assert refused.value.code == "not-found"
    assert f"{role}.json" in str(refused.value)


@pytest.mark.parametrize("pinned", [b"", b"{}", b"not json"])
def test_a_damaged_root_of_trust_is_named(world: World, pinned: bytes) -> None:
    world.repository.root_of_trust = pinned
    with pytest.raises(UpdatedError) as refused:
        world.unrefreshed()
    assert refused.value.code == "no-root-of-trust"
    world.repository.root_of_trust = (world.published("root")).read_bytes()
    with world.cycle():
        pass


def test_another_repository_is_refused(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    with pytest.raises(UpdatedError) as refused, world.cycle(source=DirectorySource(other.repository.directory)):
        pass
    assert refused.value.code == "metadata-invalid"


def test_one_process_at_a_time_works_on_a_store(world: World) -> None:
    with world.cycle():
        with pytest.raises(UpdatedError) as refused:
            world.unrefreshed()
        assert refused.value.code == "already-running"
    with world.cycle():
        pass


def test_an_unwritable_store_is_a_disk_error(world: World) -> None:
    world.store.write_bytes(b"a file where the folder should be")
    with pytest.raises(UpdatedError) as refused:
        world.unrefreshed()
    assert refused.value.code == "disk-error"
    assert str(world.store) in str(refused.value)


@pytest.mark.parametrize("name", [".timestamp.json.123.tmp", "root_history/.2.root.json.123.tmp", ".floors.1.tmp"])
def test_temporary_files_of_a_killed_process_are_removed(world: World, name: str) -> None:
    (world.store / "root_history").mkdir(parents=True)
    (world.store / name).write_bytes(b"half a file")
    with world.cycle():
        assert not (world.store / name).exists()


def test_all_cached_metadata_is_synced_before_it_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fsync

    def watched(fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        order.append(name.removeprefix(".").partition(".json.")[0])
        real(fd)

    monkeypatch.setattr(os, "fsync", watched)
    with world.cycle():
        synced = [*order]
    floors = next(index for index, name in enumerate(synced) if name.startswith("floors"))
    assert {"1.root", "timestamp", "snapshot", "targets"} <= set(synced[:floors])
    assert {"root_history", "store"} <= set(synced[:floors])
    assert "store" in synced[floors:]


def test_every_limit_is_set() -> None:
    assert CONFIG.root_max_length == 512_000
    assert CONFIG.timestamp_max_length == 16_384
    assert CONFIG.snapshot_max_length == 2_000_000
    assert CONFIG.targets_max_length == 5_000_000
    assert CONFIG.max_root_rotations == 256
    assert CONFIG.max_delegations == 32


def test_a_repository_without_consistent_snapshots_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = world.repository
    root = repository._root()
    root.consistent_snapshot = False
    root.version = 2
    Path(repository.directory, "metadata/2.root.json").write_bytes(repository.sign("root", root))
    for role in ("snapshot", "targets"):
        Path(repository.directory, f"metadata/{role}.json").write_bytes(world.published(role).read_bytes())
    with pytest.raises(UpdatedError) as refused, world.cycle():
        pass
    assert refused.value.code == "metadata-invalid"
    assert "consistent" in str(refused.value)


def test_a_target_without_sha256_is_refused(world: World) -> None:
    repository = world.repository
    targets = repository._targets("stable")
    targets.targets[STABLE].hashes = {"sha512": "00" * 64}
    targets.version = 2
    repository.versions["stable"] = 2
    repository._sign("stable", targets)
    repository.publish()
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target(STABLE, 100)
    assert refused.value.code == "metadata-invalid"
    assert "SHA-256" in str(refused.value)


def test_no_target_path_leads_out_of_the_repository(world: World) -> None:
    repository = world.repository
    repository.delegated["releases"] = ["*/*/*"]
    repository.contents["releases"]["../../secret"] = b"x"
    repository._dirty |= {"targets", "releases"}
    repository.publish()
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target("../../secret", 100)
    assert refused.value.code == "not-found"


def test_a_cycle_that_is_dropped_frees_its_store(world: World) -> None:
    def cycle() -> None:
        trust = Trust(
            DirectorySource(world.repository.directory), str(world.store), world.repository.root_of_trust,
            Clock(NOW, NOW),
        )
        trust.refresh()

    cycle()
    cycle()


def test_the_roles_of_the_simulator_are_those_of_the_layout(world: World) -> None:
    assert set(world.repository.versions) == {*TOP_ROLES, "releases", "stable", "beta", "alpha"}
