"""What is changed in the library, and that it still has each place where it is changed."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from tests.trust.world import DAY, NOW, STABLE, World
from updated.core.errors import UpdatedError
from updated.directory import DirectorySource
from updated.publish.repository import LIFETIME
from updated.trust import Clock, Trust
from updated.tufclient import CONFIG, LIFETIME_FIELD, Rules, _Fetcher, _Library


class Counted(DirectorySource):
    """A repository, the names that were read from it, and how many bytes were accepted for each."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.limits: dict[str, int] = {}

    def read(self, name: str, most: int) -> bytes:
        self.limits[name] = most
        return super().read(name, most)


# ---------------------------------------------------------------------------------------------------------- the seams


def test_the_library_still_has_the_seams_that_are_used(world: World) -> None:
    world.store.mkdir()
    updater = Updater(
        str(world.store), "metadata/", fetcher=_Fetcher(DirectorySource("/")), config=CONFIG,
        bootstrap=world.repository.root_of_trust,
    )
    trusted = updater._trusted_set
    assert isinstance(trusted, TrustedMetadataSet)
    assert isinstance(trusted.reference_time, datetime)
    assert trusted._trusted_delegations == {("root", "root")}  # (delegator, role)
    assert list(inspect.signature(Updater._load_root).parameters) == ["self"]
    assert list(inspect.signature(Updater._load_targets).parameters) == ["self", "role", "parent_role"]
    assert list(inspect.signature(Updater._persist_file).parameters) == ["self", "filename", "data"]


def test_each_seam_is_passed_through_in_a_cycle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(_Library, name)

        def call(self: object, *arguments: Any) -> Any:
            calls.append(name)
            return real(self, *arguments)

        return call

    for name in ("_load_root", "_load_targets", "_persist_file"):
        monkeypatch.setattr(_Library, name, counted(name))
    with world.cycle() as trust:
        trust.target(STABLE, 100)
        assert trust._client._trusted.reference_time == datetime.fromtimestamp(NOW, UTC)
    assert calls.count("_load_root") == 1
    # The pinned root, the timestamp, the snapshot, the targets and the channel.
    assert calls.count("_persist_file") == 5
    assert calls.count("_load_targets") == 3


def test_a_file_that_is_cached_already_is_not_written_again(world: World) -> None:
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    names = ["root_history/1.root.json", "timestamp.json", "snapshot.json", "targets.json", "stable.json"]
    before = [(world.store / name).stat().st_ino for name in names]
    with world.cycle() as trust:
        trust.target(STABLE, 100)
    assert [(world.store / name).stat().st_ino for name in names] == before


# --------------------------------------------------------------------------------------- roles with several delegators


def _two_delegators(world: World, *signers: str) -> None:
    """Two roles delegate to the role "shared", each trusts its own key, and those in `signers` have signed it."""
    repository = world.repository
    keys = {name: CryptoSigner.generate_ed25519() for name in ("a", "b")}
    for name, key in keys.items():
        repository.delegate("targets", name, [f"{name}/*"])
        repository.delegate(name, "shared", [f"{name}/*"], keys=[key])
        repository.sign_target("shared", f"{name}/x", f"by way of {name}".encode())
    repository.keys["shared"] = [keys[name] for name in signers]
    repository.publish()


@pytest.mark.parametrize("order", ["ab", "ba", "aba"])
def test_a_role_that_both_delegators_trust_is_found_by_way_of_each(world: World, order: str) -> None:
    _two_delegators(world, "a", "b")
    with world.cycle() as trust:
        for name in order:
            assert trust.target(f"{name}/x", 100) == f"by way of {name}".encode()


def test_a_role_gets_nothing_from_another_delegator_s_trust(world: World) -> None:
    _two_delegators(world, "a")
    for _ in range(2):  # the second time it comes from the cache
        with world.cycle() as trust:
            assert trust.target("a/x", 100) == b"by way of a"
            with pytest.raises(UpdatedError) as refused:
                trust.target("b/x", 100)
            assert refused.value.code == "metadata-invalid"
            assert trust.target("a/x", 100) == b"by way of a"


def test_what_one_delegator_trusts_never_replaces_what_another_does(world: World) -> None:
    """A mirror that gives out, under one name, to each lookup what that one's delegator trusts."""
    _two_delegators(world, "a", "b")
    repository = world.repository
    # The snapshot fixes the version of the role alone, so that both of its files fit.
    snapshot = repository._snapshot()
    snapshot.meta["shared.json"].hashes = snapshot.meta["shared.json"].length = None
    signed = repository._targets("shared")
    versions = {}
    for name, key in zip("ab", repository.keys["shared"], strict=True):
        repository.keys["one"] = [key]
        signed.targets[f"{name}/x"].path = f"{name}/x"
        versions[name] = repository.sign("one", signed)
        signed.targets.pop("a/x", None)  # what b signs does not have it any more
    repository._sign("snapshot", snapshot)
    repository._sign("timestamp", repository._timestamp())
    file = world.published("shared")
    with world.cycle() as trust:
        file.write_bytes(versions["a"])
        assert trust.target("a/x", 100) == b"by way of a"
        file.write_bytes(versions["b"])
        assert trust.target("b/x", 100) == b"by way of b"
        # The name stands for what b signed now, and that is nothing to a.
        with pytest.raises(UpdatedError) as refused:
            trust.target("a/x", 100)
        assert refused.value.code == "metadata-invalid"
        file.write_bytes(versions["a"])
        assert trust.target("a/x", 100) == b"by way of a"


def test_a_cached_role_is_fetched_again_when_its_new_delegator_does_not_trust_it(world: World) -> None:
    _two_delegators(world, "a")
    with world.cycle() as trust:
        trust.target("a/x", 100)
    world.repository.rotate_key("shared")
    world.repository._branches["a"] = []
    world.repository.delegate("a", "shared", ["a/*"])
    world.repository.publish()
    with world.cycle() as trust:
        assert trust.target("a/x", 100) == b"by way of a"
        assert trust.versions()["shared"] == 2


# ------------------------------------------------------------------------------------------------------- names, limits


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "a b", "ü", "%2F", "."])
def test_a_role_of_any_name_is_one_file_in_the_store_and_in_the_repository(world: World, role: str) -> None:
    world.repository.delegate("targets", role, ["odd/*"])
    world.repository.sign_target(role, "odd/x", b"odd")
    world.repository.publish()
    before = set(world.folder.rglob("*"))
    for _ in range(2):
        with world.cycle() as trust:
            assert trust.target("odd/x", 100) == b"odd"
    assert all(path.is_relative_to(world.store) for path in set(world.folder.rglob("*")) - before)


def test_a_role_with_a_name_too_long_for_a_file_is_refused(world: World) -> None:
    world.repository.delegate("targets", "ü" * 40, ["odd/*"])
    world.repository.publish()
    with world.cycle() as trust, pytest.raises(UpdatedError) as refused:
        trust.target("odd/x", 100)
    assert refused.value.code == "metadata-invalid"
    assert "too long a name" in refused.value.cause


@pytest.mark.parametrize(("role", "limit"), [("snapshot", 2_000_000), ("targets", 5_000_000), ("stable", 5_000_000)])
def test_a_length_that_metadata_announces_does_not_raise_the_limit(world: World, role: str, limit: int) -> None:
    repository = world.repository
    snapshot, timestamp = repository._snapshot(), repository._timestamp()
    meta = timestamp.snapshot_meta if role == "snapshot" else snapshot.meta[f"{role}.json"]
    meta.length, meta.hashes = 10**12, None
    if role != "snapshot":
        timestamp.snapshot_meta.length = timestamp.snapshot_meta.hashes = None
    repository._sign("snapshot", snapshot)
    repository._sign("timestamp", timestamp)
    source = Counted(repository.directory)
    with pytest.raises(UpdatedError) as refused, world.cycle(source=source) as trust:
        trust.target(STABLE, 100)
    assert refused.value.code == "metadata-invalid"  # that length is not the right one
    assert source.limits[repository.metadata_name(role)] == limit


# ------------------------------------------------------------------------------------------------------------- rules


def test_the_rules_of_nodes_are_the_strict_ones() -> None:
    assert Rules() == Rules(consistent_snapshots=True, digests=("sha256",))


@pytest.mark.parametrize(
    ("hashes", "code"),
    [
        ({"sha256": "00"}, "metadata-invalid"),
        ({"sha512": "zz" * 64}, "metadata-invalid"),
        ({"sha256": "../../../x" + "0" * 54}, "metadata-invalid"),
        ({"sha512": "00" * 64}, None),
        ({"unknown": "00" * 64}, "metadata-invalid"),
    ],
)
def test_a_digest_that_names_a_file_is_one(world: World, hashes: dict[str, str], code: str | None) -> None:
    repository = world.repository
    targets = repository._targets("stable")
    targets.targets[STABLE].hashes = hashes
    repository._sign("stable", targets)
    repository.publish()
    trust = Trust(
        DirectorySource(repository.directory), str(world.store), repository.root_of_trust, Clock(NOW, NOW),
        rules=Rules(digests=("sha256", "sha512")),
    )
    with trust:
        trust.refresh()
        with pytest.raises(UpdatedError) as refused:
            trust.target(STABLE, 100)
    assert refused.value.code == (code or "not-found")  # there is no such file


def test_a_repository_without_consistent_snapshots_is_exported_as_such(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.repository.consistent = False
    world.repository._dirty |= {"root", *world.repository.contents}
    world.change()
    rules = Rules(consistent_snapshots=False)
    for source, store in ((world.repository.directory, "first"), (str(tmp_path / "export"), "second")):
        with Trust(
            DirectorySource(source), str(tmp_path / store), world.repository.root_of_trust, Clock(NOW, NOW), rules=rules
        ) as trust:
            trust.refresh()
            assert trust.target(STABLE, 100) == b"stable, changed"
            trust.export(str(tmp_path / "export"))


# --------------------------------------------------------------------------------------------------------- lifetimes


def test_lifetimes_are_those_that_were_signed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {
        "root": 365, "timestamp": 2, "snapshot": True, "targets": "30", "stable": 30, "beta": 7, "releases": -1,
    }
    repository = world.repository
    plain = repository.sign

    def with_lifetime(role: str, signed: object) -> bytes:
        signed.unrecognized_fields[LIFETIME] = given.get(role)  # type: ignore[attr-defined]
        return plain(role, signed)  # type: ignore[arg-type]

    monkeypatch.setattr(repository, "sign", with_lifetime)
    repository._dirty |= {"root", "targets", "stable", "beta", "releases"}
    repository.publish()
    with world.cycle() as trust:
        assert trust.lifetimes() == {"root": 365 * DAY, "timestamp": 2 * DAY}
        trust.target(STABLE, 100)
        trust.target("releases/1.0.0.json", 100)
        # Only of what was read, and only of what says so in whole days.
        assert trust.lifetimes() == {"root": 365 * DAY, "timestamp": 2 * DAY, "stable": 30 * DAY}


def test_without_the_field_there_are_no_lifetimes(world: World) -> None:
    with world.cycle() as trust:
        assert trust.lifetimes() == {}


def test_the_publisher_calls_the_field_the_same() -> None:
    assert LIFETIME_FIELD == LIFETIME


def test_duplicate_keys_never_count_for_more_than_what_was_signed(world: World) -> None:
    file = world.published("timestamp")
    signed = json.loads(file.read_bytes())["signed"]["version"]
    file.write_bytes(file.read_bytes().replace(b'"version":', b'"version": 999, "version":', 1))
    with world.cycle() as trust:
        assert trust.versions()["timestamp"] == signed
