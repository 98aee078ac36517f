"""Every kind of key, from the key file to a node that trusts what it signed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

from tests.publish.node import Node
from updated.core.errors import UpdatedError
from updated.core.release import Release
from updated.core.version import Version
from updated.publish.adding import add
from updated.publish.founding import initialize
from updated.publish.inspection import verify
from updated.publish.keyfile import SCHEMES
from updated.publish.keys import KeyFolder
from updated.publish.publication import MOST_BYTES, MOST_TARGETS_BYTES
from updated.publish.publisher import Shipping, promote
from updated.publish.repository import Repository
from updated.tufclient import CONFIG

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "stable", "beta", "alpha")
CHANNELS = ROLES[5:]


def made(folder: Path, scheme: str, now: float) -> tuple[Repository, KeyFolder]:
    """A repository all of whose keys are of this scheme."""
    keys = KeyFolder(str(folder / "keys"))
    for role in ROLES:
        keys.generate(f"my-{role}", scheme)
    keys.generate("my-second-root", scheme)
    members = {role: [f"my-{role}"] for role in ROLES} | {"root": ["my-root", "my-second-root"]}
    return initialize(str(folder / "repository"), keys, CHANNELS, days={}, now=now, members=members), keys


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_node_follows_a_repository_with_keys_of_each_scheme(tmp_path: Path, scheme: str) -> None:
    now = time.time()
    repository, keys = made(tmp_path, scheme, now)
    root = Path(repository.file("metadata", "1.root.json")).read_bytes()
    node = Node(Path(repository.path), tmp_path / "store", root, now)
    before = node.read()
    image = tmp_path / "image"
    image.write_bytes(b"a system " * 50_000)
    add(repository, keys, Release(Version("1.0.0"), "demo", int(now), {}), {"rootfs": str(image)}, now=now, level=1)
    promote(Repository(repository.path), keys, "stable", "1.0.0", Shipping(), now=now)
    after = node.read()
    assert after["stable"] == before["stable"] + 1
    verify(Repository(repository.path), now=now)
    schemes = {key.keytype for key in Metadata[Root].from_bytes(root).signed.keys.values()}
    assert schemes == {{"ed25519": "ed25519", "ecdsa-p256": "ecdsa", "rsa-pss": "rsa", "ml-dsa-65": "ml-dsa"}[scheme]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_node_refuses_what_another_key_of_the_scheme_signed(tmp_path: Path, scheme: str) -> None:
    now = time.time()
    repository, _ = made(tmp_path, scheme, now)
    other, _ = made(tmp_path / "other", scheme, now)
    node = Node(
        Path(repository.path), tmp_path / "store", Path(repository.file("metadata", "1.root.json")).read_bytes(), now
    )
    shutil.copy(other.file("metadata", "timestamp.json"), repository.file("metadata", "timestamp.json"))
    with pytest.raises(UpdatedError) as caught:
        node.read()
    assert caught.value.code == "metadata-invalid"


def test_the_lengths_that_are_published_are_those_that_nodes_accept() -> None:
    config = CONFIG
    assert {
        "root": config.root_max_length, "timestamp": config.timestamp_max_length,
        "snapshot": config.snapshot_max_length,
    } == MOST_BYTES  # fmt: skip
    assert config.targets_max_length == MOST_TARGETS_BYTES


def test_keys_of_init_are_those_that_were_named(tmp_path: Path) -> None:
    repository, keys = made(tmp_path, "ed25519", time.time())
    assert repository.roles.keyids("stable") == [keys.record("my-stable").keyid]
    assert repository.roles.keyids("root") == [keys.record(name).keyid for name in ("my-root", "my-second-root")]
    assert set(keys.records()) == {*(f"my-{role}" for role in ROLES), "my-second-root"}


@pytest.mark.parametrize(
    ("members", "thresholds", "cause"),
    [
        ({"root": ["one"]}, {}, "needs 2 of its 1 keys"),
        ({"root": ["one", "one"]}, {}, "needs 2 of its 1 keys"),
        ({"stable": ["one"], "beta": ["one"]}, {}, "one stolen key"),
        ({"stable": ["theirs"]}, {}, "somebody else's"),
        ({"stable": ["one", "two"]}, {"stable": 3}, "needs 3 of its 2 keys"),
        ({"nightly": ["one"]}, {}, "'nightly'"),
        ({}, {"nightly": 1}, "'nightly'"),
        ({"stable": ["missing"]}, {}, "missing.json"),
        ({}, {"root": 0}, "needs 0 of its 3 keys"),
    ],
)
def test_init_refuses_keys_that_do_not_do_and_makes_nothing(
    tmp_path: Path, members: dict[str, list[str]], thresholds: dict[str, int], cause: str
) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    for name in ("one", "two"):
        keys.generate(name)
    theirs = KeyFolder(str(tmp_path / "elsewhere")).generate("theirs")
    (tmp_path / "keys" / "theirs.json").write_bytes(theirs.public.format())
    before = set(keys.records())
    with pytest.raises(UpdatedError, match=cause):
        initialize(
            str(tmp_path / "repository"), keys, ["stable", "beta"], days={}, now=time.time(), members=members,
            thresholds=thresholds,
        )  # fmt: skip
    assert set(keys.records()) == before
    assert not (tmp_path / "repository").exists()


def test_a_repository_may_begin_with_one_root_key_when_that_is_said(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    keys.generate("anna")
    repository = initialize(
        str(tmp_path / "repository"), keys, ["stable"], days={}, now=time.time(), members={"root": ["anna"]},
        thresholds={"root": 1},
    )  # fmt: skip
    assert repository.roles.threshold("root") == 1
