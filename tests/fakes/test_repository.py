"""The simulator publishes what python-tuf itself accepts, in the real layout."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from tests.fakes.repository import RepositorySimulator

NOW = 1_800_000_000


@pytest.fixture
def repository(tmp_path: Path) -> RepositorySimulator:
    repository = RepositorySimulator(tmp_path, now=NOW)
    repository.set_target("channels/stable.json", b"stable")
    repository.set_target("releases/1.0.json", b"release")
    repository.publish()
    return repository


def _names(repository: RepositorySimulator) -> set[str]:
    root = Path(repository.directory)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _load(repository: RepositorySimulator, role: str) -> Any:
    return Metadata[Any].from_file(os.path.join(repository.directory, repository.metadata_name(role)))


def test_the_layout_is_that_of_a_real_repository(repository: RepositorySimulator) -> None:
    roles = ("root", "snapshot", "targets", "releases", "stable", "beta", "alpha")
    assert _names(repository) == {
        "metadata/timestamp.json",
        *(f"metadata/1.{role}.json" for role in roles),
        f"targets/channels/{hashlib.sha256(b'stable').hexdigest()}.stable.json",
        f"targets/releases/{hashlib.sha256(b'release').hexdigest()}.1.0.json",
    }


def test_the_root_needs_two_of_three_keys(repository: RepositorySimulator) -> None:
    root = Metadata[Root].from_bytes(repository.root_of_trust).signed
    assert (len(root.roles["root"].keyids), root.roles["root"].threshold) == (3, 2)
    root.verify_delegate("root", _load(repository, "root").signed_bytes, _load(repository, "root").signatures)


def test_each_role_is_signed_by_its_delegator_s_choice(repository: RepositorySimulator) -> None:
    root = Metadata[Root].from_bytes(repository.root_of_trust).signed
    targets = Metadata[Targets].from_bytes(Path(repository.directory, "metadata/1.targets.json").read_bytes()).signed
    for role in ("timestamp", "snapshot", "targets"):
        root.verify_delegate(role, _load(repository, role).signed_bytes, _load(repository, role).signatures)
    for role in ("releases", "stable", "beta", "alpha"):
        targets.verify_delegate(role, _load(repository, role).signed_bytes, _load(repository, role).signatures)
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        assert targets.delegations.roles[role].terminating


def test_publish_bumps_what_changed_and_what_lists_it(repository: RepositorySimulator) -> None:
    repository.set_target("channels/beta.json", b"beta")
    repository.publish()
    assert repository.versions == {
        "root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "releases": 1, "stable": 1, "beta": 2, "alpha": 1,
    }


def test_a_rotated_root_is_signed_by_old_and_new_keys(repository: RepositorySimulator) -> None:
    repository.rotate_key("root")
    repository.publish()
    old, new = Metadata[Root].from_bytes(repository.root_of_trust).signed, _load(repository, "root")
    old.verify_delegate("root", new.signed_bytes, new.signatures)
    new.signed.verify_delegate("root", new.signed_bytes, new.signatures)
    assert len(new.signed.roles["root"].keyids) == 3
    assert set(new.signed.roles["root"].keyids) != set(old.roles["root"].keyids)


def test_an_older_state_comes_back(repository: RepositorySimulator) -> None:
    old = repository.saved()
    repository.set_target("channels/stable.json", b"newer")
    repository.publish()
    assert repository.saved() != old
    repository.restore(old)
    assert repository.saved() == old


def test_an_expiry_is_signed(repository: RepositorySimulator) -> None:
    repository.set_expiry("stable", NOW - 1)
    repository.publish()
    assert _load(repository, "stable").signed.expires.timestamp() == NOW - 1


def test_a_target_can_be_taken_out(repository: RepositorySimulator) -> None:
    repository.remove_target("channels/stable.json")
    repository.publish()
    assert _load(repository, "stable").signed.targets == {}


def test_a_blob_is_named_by_its_digest(repository: RepositorySimulator) -> None:
    digest = repository.add_blob(b"content")
    assert Path(repository.directory, "blobs", digest).read_bytes() == b"content"
    assert digest == hashlib.sha256(b"content").hexdigest()


def test_roles_can_delegate_to_others_with_keys_of_their_choice(repository: RepositorySimulator) -> None:
    foreign = CryptoSigner.generate_ecdsa()
    repository.delegate("releases", "a/b", ["x/*"])
    repository.delegate("stable", "a/b", ["y/*"], terminating=True, keys=[foreign])
    repository.sign_target("a/b", "x/1", b"one")
    repository.publish()
    assert repository.metadata_name("a/b") == "metadata/1.a%2Fb.json"
    metadata = _load(repository, "a/b")
    _load(repository, "releases").signed.verify_delegate("a/b", metadata.signed_bytes, metadata.signatures)
    stable = _load(repository, "stable").signed
    with pytest.raises(UnsignedMetadataError):
        stable.verify_delegate("a/b", metadata.signed_bytes, metadata.signatures)
    assert stable.delegations.roles["a/b"].terminating
    assert _load(repository, "snapshot").signed.meta["a/b.json"].version == 1


def test_a_threshold_holds_for_the_role_that_it_is_set_for(repository: RepositorySimulator) -> None:
    repository.thresholds |= {"snapshot": 2, "stable": 2}
    repository.rotate_key("snapshot")
    repository.rotate_key("stable")
    repository.publish()
    assert _load(repository, "root").signed.roles["snapshot"].threshold == 2
    assert _load(repository, "root").signed.roles["root"].threshold == 2
    assert _load(repository, "targets").signed.delegations.roles["stable"].threshold == 2


def test_without_consistent_snapshots_only_the_root_has_its_version_in_its_name(tmp_path: Path) -> None:
    repository = RepositorySimulator(tmp_path, now=NOW, channels=())
    repository.consistent = False
    repository.set_target("releases/1.0.json", b"release")
    repository.publish()
    assert _names(repository) == {
        "metadata/1.root.json", "metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json",
        "metadata/releases.json", "targets/releases/1.0.json",
    }
    assert not _load(repository, "root").signed.consistent_snapshot
