"""Keys come and go, and nodes follow: those that were there all along, those that slept, and new ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Timestamp  # type: ignore[attr-defined]

from tests.publish.conftest import Desk
from updated.core.errors import UpdatedError
from updated.publish import keychange
from updated.publish.inspection import verify
from updated.publish.keyrecord import KeyRecord, known_key
from updated.publish.publication import sign
from updated.publish.publisher import refresh

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "stable")


def first_key(role: str) -> str:
    return "root-1" if role == "root" else role


def refused(code: str, call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(UpdatedError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    return str(caught.value)


def change(function: Callable[..., Any], desk: Desk, *arguments: Any) -> Any:
    return function(desk.repository, desk.keys, *arguments, now=desk.now)


@contextmanager
def at_each_instant(desk: Desk, look: Callable[[], None]) -> Iterator[list[str]]:
    """Looks at the repository right after each file of it appears; the names of these files."""
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        rename = os.rename

        def watched(source: str, target: str) -> None:
            rename(source, target)
            if Path(target).is_relative_to(desk.path):
                seen.append(Path(target).name)
                look()

        patch.setattr(os, "rename", watched)
        yield seen


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_is_followed_by_every_node_and_the_old_one_signs_nothing_more(desk: Desk, role: str) -> None:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    old_node = desk.node("old")
    old_node.read()
    desk.key("fresh", "ecdsa-p256")

    desk.rotate(role, first_key(role), "fresh")

    assert desk.keyid("fresh") in desk.repository.roles.keyids(role)
    assert desk.keyid(first_key(role)) not in desk.repository.roles.keyids(role)
    verify(desk.repository, now=desk.now)
    assert old_node.read() == desk.node("new").read()
    desk.keys = desk.without(first_key(role))
    desk.promote("stable", "1.0.0")
    refresh(desk.repository, desk.keys, now=desk.now + 600 * 86400)
    refresh(desk.repository, desk.keys, now=desk.now)
    assert old_node.read() == desk.node("newer").read()


@pytest.mark.parametrize("role", ROLES)
def test_nodes_read_the_repository_at_every_instant_of_a_rotation(desk: Desk, role: str) -> None:
    desk.key("fresh")
    node = desk.node("old")
    node.read()
    count = iter(range(1000))

    def look() -> None:
        node.read()
        desk.node(f"new-{next(count)}").read()
        verify(desk.repository, now=desk.now)

    with at_each_instant(desk, look) as seen:
        desk.rotate(role, first_key(role), "fresh")
    assert seen[-1] == ("timestamp.json" if role in ("releases", "stable") else "2.root.json")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_with_a_lost_key_nodes_fail_only_between_the_root_and_the_timestamp(desk: Desk, role: str) -> None:
    desk.key("fresh")
    desk.keys = desk.without(role)
    node = desk.node("old")
    node.read()
    failed: list[str] = []

    def look() -> None:
        try:
            node.read()
        except UpdatedError as error:
            failed.append(f"{seen[-1]} {error.code}")

    with at_each_instant(desk, look) as seen:
        desk.rotate(role, role, "fresh")
    assert failed == ["2.root.json metadata-invalid"]
    assert seen[-2:] == ["2.root.json", "timestamp.json"]
    assert node.read() == desk.node("new").read()


def interrupted_rotation(desk: Desk, role: str) -> None:
    """A rotation of a lost key, cut at the worst place: the root is there, and the timestamp is not."""
    desk.key("fresh")
    desk.keys = desk.without(role)

    class Cut(BaseException):
        pass

    def look() -> None:
        if seen[-1] == "2.root.json":
            raise Cut

    with pytest.raises(Cut), at_each_instant(desk, look) as seen:
        desk.rotate(role, role, "fresh")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_an_interrupted_rotation_is_completed_by_the_next_refresh(desk: Desk, role: str) -> None:
    node = desk.node("old")
    node.read()
    interrupted_rotation(desk, role)
    refused("metadata-invalid", node.read)
    before = desk.repository.interrupted
    fresh = "fresh" if role in ("snapshot", "timestamp") else "timestamp"
    online = {"snapshot", "timestamp", fresh} - {role}

    refresh(desk.repository, desk.only(*online), now=desk.now)

    assert (before, desk.repository.interrupted) == (True, False)
    assert node.read() == desk.node("new").read()
    assert [path for path in desk.path.rglob(".*") if "unfinished" in path.name] == []


def test_an_interrupted_rotation_is_completed_by_itself_when_it_is_run_again(desk: Desk) -> None:
    interrupted_rotation(desk, "timestamp")
    assert desk.rotate("timestamp", "timestamp", "fresh") is False
    assert desk.node().read()["root"] == 2


def test_a_prepared_timestamp_that_does_not_fit_the_newest_root_counts_for_nothing(desk: Desk, tmp_path: Path) -> None:
    interrupted_rotation(desk, "timestamp")
    staged = desk.path / "metadata" / ".unfinished-timestamp.json"
    staged.write_bytes((desk.path / "metadata" / "timestamp.json").read_bytes())
    assert "timestamp" in refused("metadata-invalid", lambda: desk.repository)


def test_a_rotation_that_was_done_is_not_done_again(desk: Desk) -> None:
    desk.key("fresh")
    assert desk.rotate("stable", "stable", "fresh") is True
    before = desk.node().read()
    assert desk.rotate("stable", "stable", "fresh") is False
    assert desk.node().read() == before


def test_a_node_that_slept_through_many_roots_follows_them_all(desk: Desk) -> None:
    sleeper = desk.node("sleeper")
    sleeper.read()
    current = {role: first_key(role) for role in ("root", "targets", "snapshot", "timestamp")}
    for number in range(3):
        for role in current:
            name = f"{role}-new-{number}"
            desk.key(name)
            desk.rotate(role, current[role], name)
            current[role] = name
    desk.add("1.0.0")
    versions = sleeper.read()
    assert versions["root"] == 13
    assert versions == desk.node("new").read()


def test_all_root_keys_can_be_replaced_one_by_one(desk: Desk) -> None:
    node = desk.node("old")
    node.read()
    for number in (1, 2, 3):
        desk.key(f"next-{number}")
        desk.rotate("root", f"root-{number}", f"next-{number}")
        desk.keys = desk.without(f"root-{number}")
        assert node.read()["root"] == number + 1
    assert desk.node("new").read()["root"] == 4


def test_a_new_root_needs_the_old_keys_and_the_new_ones(desk: Desk) -> None:
    desk.key("fresh")
    everything = desk.keys
    desk.keys = desk.without("root-1", "root-2")
    assert "the role root: 1 more of its keys is needed: root-1" in refused(
        "bad-key", desk.rotate, "root", "root-1", "fresh"
    )
    desk.keys = everything
    desk.keys = desk.without("root-2", "fresh")
    assert "fresh.pem is not there" in refused("bad-key", desk.rotate, "root", "root-1", "fresh")
    assert desk.repository.roles.root.signed.version == 1


# ------------------------------------------------------------------------------------------ fast-forward recovery


def stolen(desk: Desk, tmp_path: Path) -> Path:
    """A copy of the repository whose timestamp was signed by a thief, with a version that nobody reaches."""
    copy = tmp_path / "thief"
    shutil.copytree(desk.path, copy)
    file = copy / "metadata" / "timestamp.json"
    timestamp = Metadata[Timestamp].from_bytes(file.read_bytes())
    timestamp.signed.version = 2**31 - 1
    timestamp.signatures.clear()
    (signer,) = desk.keys.signers([desk.keyid("timestamp")]).signers
    sign(timestamp, signer)
    file.write_bytes(timestamp.to_bytes())
    return copy


@pytest.mark.parametrize("old_key_is_here", [True, False])
def test_nodes_recover_from_a_thief_who_ran_ahead_when_the_timestamp_key_is_rotated(
    desk: Desk, tmp_path: Path, old_key_is_here: bool
) -> None:
    victim = desk.node("victim")
    victim.read()
    assert victim.read(stolen(desk, tmp_path))["timestamp"] == 2**31 - 1
    refresh(desk.repository, desk.keys, now=desk.now)
    refused("metadata-rolled-back", victim.read)
    desk.key("fresh")
    if not old_key_is_here:
        desk.keys = desk.without("timestamp")

    desk.rotate("timestamp", "timestamp", "fresh")

    assert victim.read() == desk.node("new").read()
    assert "metadata" in refused("metadata-invalid", victim.read, tmp_path / "thief")


# ------------------------------------------------------------------------------------- add, revoke, thresholds


def test_more_keys_and_a_higher_threshold(desk: Desk) -> None:
    node = desk.node("old")
    node.read()
    desk.key("second")
    change(keychange.add, desk, "stable", desk.keys.record("second"), 2)
    assert desk.repository.roles.threshold("stable") == 2
    assert node.read() == desk.node("new").read()
    desk.add("1.0.0")
    everything = desk.keys
    desk.keys = desk.without("second")
    assert "second.pem is not there" in refused("bad-key", desk.promote, "stable", "1.0.0")
    desk.keys = everything
    desk.promote("stable", "1.0.0")
    change(keychange.set_threshold, desk, "stable", 1)
    desk.keys = desk.without("second")
    desk.promote("stable", "1.0.0")
    assert node.read() == desk.node("newer").read()


def test_a_second_timestamp_key_then_no_first_one_is_a_rotation_without_any_gap(desk: Desk, tmp_path: Path) -> None:
    """Also where the files are copied one after the other, in whatever order."""
    node = desk.node("old")
    node.read()
    desk.key("fresh")
    change(keychange.add, desk, "timestamp", desk.keys.record("fresh"), None)
    node.read()
    served = tmp_path / "served"
    shutil.copytree(desk.path, served)
    change(keychange.revoke, desk, "timestamp", desk.keyid("timestamp"))
    for path in [*(desk.path / "metadata").glob("*.root.json"), *(desk.path / "metadata").iterdir()]:
        shutil.copy(path, served / "metadata" / path.name)
        node.read(served)


@pytest.mark.parametrize("role", ROLES)
def test_a_revoked_key_signs_nothing_more(desk: Desk, role: str) -> None:
    node = desk.node("old")
    desk.key("second")
    change(keychange.add, desk, role, desk.keys.record("second"), None)
    node.read()
    change(keychange.revoke, desk, role, desk.keyid(first_key(role)))
    assert desk.keyid(first_key(role)) not in desk.repository.roles.keyids(role)
    desk.keys = desk.without(first_key(role))
    refresh(desk.repository, desk.keys, now=desk.now)
    assert node.read() == desk.node("new").read()


def published(desk: Desk) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in desk.path.rglob("*") if path.is_file()}


def test_a_role_keeps_enough_keys(desk: Desk) -> None:
    before = published(desk)
    assert "1 of 0 keys" in refused("bad-request", change, keychange.revoke, desk, "stable", desk.keyid("stable"))
    assert "2 of 1 keys" in refused("bad-request", change, keychange.set_threshold, desk, "stable", 2)
    assert "0 of 1 keys" in refused("bad-request", change, keychange.set_threshold, desk, "stable", 0)
    desk.key("second")
    assert "3 of 2 keys" in refused(
        "bad-request", change, keychange.add, desk, "stable", desk.keys.record("second"), 3
    )
    assert published(desk) == before


def test_a_key_is_in_a_role_once(desk: Desk) -> None:
    before = published(desk)
    stable = desk.keys.record("stable")
    assert "signs stable already" in refused("bad-request", change, keychange.add, desk, "stable", stable, None)
    assert "signs root already" in refused("bad-request", desk.rotate, "root", "root-1", "root-2")
    rsa = desk.key("rsa", "rsa-pss")
    desk.rotate("stable", "stable", "rsa")
    after = published(desk)
    assert after != before
    other_scheme = KeyRecord("again", known_key("rsa", "rsassa-pss-sha512", rsa.key.keyval["public"]))
    assert "one key twice" in refused("bad-key", change, keychange.add, desk, "stable", other_scheme, None)
    assert published(desk) == after


@pytest.mark.parametrize(
    ("role", "name"),
    [("stable", "beta"), ("releases", "stable"), ("root", "stable"), ("targets", "releases"), ("timestamp", "root-1")],
)
def test_one_key_never_signs_for_roles_that_are_apart(desk: Desk, role: str, name: str) -> None:
    before = published(desk)
    record = desk.keys.record(name)
    assert "one stolen key" in refused("bad-key", change, keychange.add, desk, role, record, None)
    assert published(desk) == before


@pytest.mark.parametrize(("role", "name"), [("targets", "root-1"), ("snapshot", "timestamp")])
def test_root_and_targets_may_share_a_key_and_so_may_snapshot_and_timestamp(desk: Desk, role: str, name: str) -> None:
    desk.rotate(role, role, name)
    desk.node().read()


def test_a_role_or_key_that_is_not_there_is_named(desk: Desk) -> None:
    record = desk.key("fresh")
    assert "'nightly'" in refused("bad-request", change, keychange.add, desk, "nightly", record, None)
    assert "is not one of those of stable" in refused("bad-request", desk.rotate, "stable", "beta", "fresh")


def test_metadata_that_nodes_would_find_too_long_is_refused(desk: Desk) -> None:
    before = published(desk)
    desk.key("long-1", "ml-dsa-65")
    desk.key("long-2", "ml-dsa-65")
    change(keychange.add, desk, "timestamp", desk.keys.record("long-1"), None)
    change(keychange.add, desk, "timestamp", desk.keys.record("long-2"), None)
    desk.node().read()
    desk.key("long-3", "ml-dsa-65")
    before = published(desk)
    assert "nodes accept 16384" in refused(
        "bad-request", change, keychange.add, desk, "timestamp", desk.keys.record("long-3"), None
    )
    assert published(desk) == before


