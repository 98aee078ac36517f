"""What nodes get from a repository: judged by the TUF client of python-tuf."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import ExpiredMetadataError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile, Targets  # type: ignore[attr-defined]

from tests.publish.client import Client
from tests.publish.conftest import Desk
from tests.publish.synthetic import edited
from updated.core.errors import UpdatedError
from updated.core.release import Recall
from updated.core.rollout import Rollout
from updated.core.version import Version
from updated.publish.founding import DAYS, initialize
from updated.publish.inspection import verify
from updated.publish.keys import KeyFolder
from updated.publish.publication import Publication
from updated.publish.publisher import Shipping, recall, refresh, roll_out
from updated.publish.repository import locked
from updated.publish.waves import paused, ramp, waves

DAY = 86400


def refused(code: str, call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(UpdatedError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    return str(caught.value)


def test_a_new_repository_has_empty_channels(client: Client) -> None:
    assert [client.channel(name).entries for name in ("stable", "beta", "alpha")] == [(), (), ()]


def test_a_node_gets_the_release_that_its_channel_ships(desk: Desk, client: Client) -> None:
    desk.add("1.0.0", notes="First one.")
    desk.promote("stable", "1.0.0")

    entry = client.channel("stable").entries[0]
    manifest = client.fetch("releases/1.0.0.json")[0]
    release = client.release("1.0.0")

    assert entry.version == Version("1.0.0")
    assert entry.manifest == hashlib.sha256(manifest).hexdigest()
    assert (release.compatible, release.notes) == ("demo", "First one.")
    for part in (release.components["rootfs"].index, release.components["rootfs"].blob):
        data = (desk.path / "blobs" / part.sha256).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (part.sha256, part.length)
    assert client.channel("beta").entries == ()


def test_a_node_follows_from_one_state_to_the_next(desk: Desk, client: Client) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        desk.add(version, seed=len(version))
        desk.promote("beta", version)
        assert client.channel("beta").entries[-1].version == Version(version)
    refresh(desk.repository, desk.keys, now=desk.now)
    assert len(client.channel("beta").entries) == 3


def test_root_needs_two_of_its_three_keys(desk: Desk) -> None:
    root = Metadata[Root].from_bytes(desk.root)
    role = root.signed.roles["root"]
    assert (role.threshold, len(role.keyids)) == (2, 3)

    signature = next(iter(root.signatures))
    root.signatures = {signature: root.signatures[signature]}
    with pytest.raises(UnsignedMetadataError):
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)


def test_every_role_has_a_key_of_its_own(desk: Desk) -> None:
    roles = desk.repository.roles
    keyids = [keyid for role in roles.all() for keyid in roles.keyids(role)]
    assert len(set(keyids)) == len(keyids) == 10


def leaked(desk: Desk, role: str, key: str, path: str, data: bytes) -> None:
    """Publishes `path` as `role`, signed with `key`, by someone who also has the keys of snapshot and timestamp."""
    roles = desk.repository.roles
    publication = Publication(str(desk.path), roles, desk.keys, desk.now)
    target: Metadata[Targets] = roles.delegated[role]
    (signer,) = desk.keys.signers(roles.keyids(key)).signers
    info = TargetFile.from_data(path, data, ["sha256"])
    target.signed.targets[path] = info
    target.signed.version += 1
    target.sign(signer)
    folder, _, name = path.rpartition("/")
    (desk.path / "targets" / folder / f"{info.hashes['sha256']}.{name}").write_bytes(data)
    signed = target.to_bytes()
    (desk.path / "metadata" / f"{target.signed.version}.{role}.json").write_bytes(signed)
    meta = roles.snapshot.signed.meta[f"{role}.json"]
    meta.version, meta.length, meta.hashes = (
        target.signed.version,
        len(signed),
        {"sha256": hashlib.sha256(signed).hexdigest()},
    )
    publication.commit()


def test_a_leaked_alpha_key_cannot_sign_the_stable_channel(desk: Desk, client: Client) -> None:
    desk.add("1.0.0")
    desk.promote("alpha", "1.0.0")
    shipped = client.fetch("channels/alpha.json")[0].replace(b'"alpha"', b'"stable"')

    leaked(desk, "stable", "alpha", "channels/stable.json", shipped)

    with pytest.raises(UnsignedMetadataError):
        client.channel("stable")
    refused("metadata-invalid", lambda: desk.repository)


def test_a_leaked_alpha_key_cannot_list_stable_in_its_own_metadata(desk: Desk, client: Client) -> None:
    leaked(desk, "alpha", "alpha", "channels/stable.json", b'{"evil": true}')
    assert client.channel("stable").entries == ()


def test_a_leaked_channel_key_cannot_forge_a_release(desk: Desk, client: Client) -> None:
    leaked(desk, "stable", "stable", "releases/9.9.9.json", b'{"evil": true}')
    with pytest.raises(LookupError):
        client.release("9.9.9")


def test_a_leaked_build_key_cannot_ship(desk: Desk, client: Client) -> None:
    leaked(desk, "releases", "releases", "channels/stable.json", b'{"evil": true}')
    assert client.channel("stable").entries == ()


def test_an_image_is_stored_once_whatever_its_versions(desk: Desk) -> None:
    desk.add("1.0.0", seed=1)
    before = sorted(os.listdir(desk.path / "blobs"))
    desk.add("1.0.1", seed=1)
    assert sorted(os.listdir(desk.path / "blobs")) == before


def test_adding_the_very_same_release_again_changes_nothing(desk: Desk) -> None:
    assert set(desk.add("1.0.0")) == {"rootfs"}
    before = desk.repository.roles.timestamp.signed.version
    desk.now += 10
    assert desk.add("1.0.0") == {}
    assert desk.repository.roles.timestamp.signed.version == before


@pytest.mark.parametrize(("version", "cause"), [("1.0.0", "with other content"), ("1.0", "the same version as 1.0.0")])
def test_a_published_version_never_gets_other_content(desk: Desk, version: str, cause: str) -> None:
    desk.add("1.0.0", seed=1)
    assert cause in refused("bad-request", desk.add, version, seed=2)


def test_names_that_no_other_release_has_are_told_before_hours_are_spent_on_compressing(desk: Desk) -> None:
    desk.add("1.0.0", seed=1)
    before = set(os.listdir(desk.path / "blobs"))
    there: list[set[str]] = []
    desk.add("1.1.0", seed=2, compatible="dmeo", warn=lambda text: there.append(set(os.listdir(desk.path / "blobs"))))
    assert there == [before]


def test_what_nodes_would_refuse_is_refused_before_anything_is_written(desk: Desk) -> None:
    before = sorted(desk.path.rglob("*"))
    assert "notes" in refused("bad-request", desk.add, "1.0.0", notes="x" * 70_000)
    assert sorted(desk.path.rglob("*")) == before


def test_each_verb_needs_only_its_own_keys(desk: Desk, tmp_path: Path) -> None:
    whole = Path(desk.keys.path)

    def with_keys(*names: str) -> None:
        folder = tmp_path / f"only-{'-'.join(names)}"
        folder.mkdir()
        for name in names:
            for file in (f"{name}.pem", f"{name}.json"):
                (folder / file).write_bytes((whole / file).read_bytes())
        desk.keys = KeyFolder(str(folder))

    with_keys("releases", "snapshot", "timestamp")
    desk.add("1.0.0")
    assert "no record of it in" in refused("bad-key", desk.promote, "stable", "1.0.0")
    (Path(desk.keys.path) / "stable.json").write_bytes((whole / "stable.json").read_bytes())
    assert "stable.pem is not there" in refused("bad-key", desk.promote, "stable", "1.0.0")
    with_keys("stable", "snapshot", "timestamp")
    desk.promote("stable", "1.0.0")
    assert "the role releases" in refused("bad-key", desk.add, "1.0.1", seed=2)
    with_keys("snapshot", "timestamp")
    refresh(desk.repository, desk.keys, now=desk.now)


def test_a_rollout_starts_now_and_takes_its_hours(desk: Desk, client: Client) -> None:
    desk.add("0.9")
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0", Shipping(ramp(10), barrier=True, minimum=Version("0.9")))
    entry = client.channel("stable").entries[0]
    assert entry.rollout == Rollout(int(desk.now), ((0, 0.0), (36000, 1.0)))
    assert (entry.barrier, entry.minimum) == (True, Version("0.9"))


def test_a_release_that_is_shipped_again_keeps_the_nodes_that_have_it(desk: Desk, client: Client) -> None:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0", Shipping(waves("10%")))
    desk.now += 60
    desk.promote("stable", "1.0.0", Shipping(waves("1%,50%@1m")))
    rollout = client.channel("stable").entries[0].rollout
    assert rollout is not None
    assert [rollout.eligible_at(seed) for seed in (0.05, 0.3, 0.7)] == [int(desk.now) - 60, int(desk.now) + 60, None]
    desk.promote("stable", "1.0.0")
    assert "for all nodes already" in refused("bad-request", desk.promote, "stable", "1.0.0", Shipping(waves("10%")))


def test_a_rollout_is_changed_in_the_channel(desk: Desk, client: Client) -> None:
    desk.add("0.9")
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0", Shipping(ramp(10), barrier=True))
    desk.now += 3600
    roll_out(desk.repository, desk.keys, "stable", "1.0.0", paused, now=desk.now)
    entry = client.channel("stable").entries[0]
    assert entry.barrier
    assert entry.rollout is not None
    assert (entry.rollout.eligible_at(0.05), entry.rollout.eligible_at(0.5)) == (int(desk.now) - 1799, None)
    assert roll_out(desk.repository, desk.keys, "stable", "1.0.0", lambda rollout, now: None, now=desk.now) is None
    assert client.channel("stable").entries[0].rollout is None
    assert "for all nodes already" in refused(
        "bad-request", roll_out, desk.repository, desk.keys, "stable", "1.0.0", paused, now=desk.now
    )
    assert "not in channel beta" in refused(
        "bad-request", roll_out, desk.repository, desk.keys, "beta", "1.0.0", paused, now=desk.now
    )


def test_only_published_releases_are_shipped(desk: Desk) -> None:
    assert "not in the repository" in refused("bad-request", desk.promote, "stable", "1.0.0")
    desk.add("1.0.0")
    assert "stable, beta, alpha" in refused("unknown-channel", desk.promote, "nightly", "1.0.0")


def test_a_recall_reaches_the_nodes_and_stands(desk: Desk, client: Client) -> None:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    recall(desk.repository, desk.keys, "stable", "1.0.0", "eats disks", now=desk.now)

    recalled = client.channel("stable").entries[0].recalled

    assert recalled is not None
    assert recalled.reason == "eats disks"
    assert "eats disks" in refused("bad-request", desk.promote, "stable", "1.0.0")


def test_a_recall_names_a_release_of_the_channel_and_a_reason(desk: Desk) -> None:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    refused("bad-request", recall, desk.repository, desk.keys, "beta", "1.0.0", "bad", now=desk.now)
    refused("bad-request", recall, desk.repository, desk.keys, "stable", "1.0.0", " ", now=desk.now)


def test_a_recall_names_an_older_good_release_as_its_replacement(desk: Desk, client: Client) -> None:
    for seed, version in enumerate(("1.0.0", "1.1.0", "1.2.0")):
        desk.add(version, seed=seed)
        desk.promote("stable", version)

    def recalled(version: str, replacement: str) -> None:
        recall(desk.repository, desk.keys, "stable", version, "bad", now=desk.now, replacement=replacement)

    recalled("1.2.0", "1.1")
    recalled("1.1.0", "1.0.0")
    channel = client.channel("stable")
    assert [each.recalled for each in channel.entries] == [
        None, Recall("bad", Version("1.0.0")), Recall("bad", Version("1.1.0"))
    ]
    assert channel.standing(Version("1.2.0")) == Version("1.0.0")
    assert "was recalled itself" in refused("bad-request", recalled, "1.2.0", "1.1.0")
    assert "is not older than 1.0.0" in refused("bad-request", recalled, "1.0.0", "1.0.0")
    assert "is not in channel stable" in refused("bad-request", recalled, "1.2.0", "0.9.0")
    assert "was recalled" in refused(
        "bad-request", roll_out, desk.repository, desk.keys, "stable", "1.2.0", paused, now=desk.now
    )


def expiries(desk: Desk) -> dict[str, datetime]:
    return {name: role.signed.expires for name, role in desk.repository.roles.all().items()}


def test_signatures_last_as_long_as_their_role_says(tmp_path: Path) -> None:
    keys = KeyFolder(str(tmp_path / "keys"))
    now = 1_800_000_000
    made = initialize(str(tmp_path / "r"), keys, ["stable"], days={"timestamp": 1, "stable": 30}, now=now)
    for days in (0, 1):
        refresh(made, keys, now=now + days * DAY)
        expires = {name: role.signed.expires.timestamp() for name, role in made.roles.all().items()}
        assert expires["timestamp"] == now + (days + 1) * DAY
        assert expires["snapshot"] == now + (days + DAYS["snapshot"]) * DAY
        assert expires["stable"] == now + 30 * DAY
        assert expires["root"] == now + DAYS["root"] * DAY


def test_refresh_renews_what_is_close_to_expiry(desk: Desk, client: Client) -> None:
    client.fetch()
    later = desk.now + 70 * DAY
    renewal = refresh(desk.repository, desk.keys, now=later)
    assert renewal.renewed == ("stable", "beta", "alpha", "snapshot", "timestamp")
    assert renewal.neglected == ()
    assert expiries(desk)["stable"] == datetime.fromtimestamp(int(later) + 90 * DAY, UTC)
    client.channel("stable")


def test_refresh_renews_root_when_enough_of_its_keys_are_there(desk: Desk, client: Client) -> None:
    client.fetch()
    os.unlink(desk.keys.file("root-2"))
    later = desk.now + 600 * DAY

    renewal = refresh(desk.repository, desk.keys, now=later)

    assert "root" in renewal.renewed
    assert desk.repository.roles.root.signed.version == 2
    assert expiries(desk)["root"].timestamp() > later + 700 * DAY
    client.channel("stable")


def test_refresh_says_which_roles_it_could_not_renew(desk: Desk) -> None:
    for name in ("root-1", "root-3", "beta"):
        os.unlink(desk.keys.file(name))
    renewal = refresh(desk.repository, desk.keys, now=desk.now + 600 * DAY)
    assert renewal.neglected == ("root", "beta")
    assert desk.repository.roles.root.signed.version == 1


def test_a_repository_that_nobody_refreshes_expires(desk: Desk, client: Client) -> None:
    refresh(desk.repository, desk.keys, now=desk.now - 10 * DAY)
    with pytest.raises(ExpiredMetadataError):
        client.fetch()
    assert "timestamp" in refused("metadata-expired", verify, desk.repository, now=desk.now)
    refresh(desk.repository, desk.keys, now=desk.now)
    client.fetch()


def test_verify_reads_every_file_and_counts(desk: Desk) -> None:
    desk.add("1.0.0", seed=1)
    desk.add("1.1.0", content=edited(desk.content(1), 100_000))
    desk.add("1.1.1", content=desk.content(1))
    desk.promote("stable", "1.1.0")
    verdict = verify(desk.repository, now=desk.now)
    assert (verdict.roles, verdict.releases, verdict.blobs) == (8, 3, 2)
    assert verdict.stored_bytes == sum(file.stat().st_size for file in (desk.path / "blobs").iterdir())


def test_verify_finds_a_changed_byte_in_every_file_that_nodes_may_read(desk: Desk) -> None:
    desk.add("1.0.0")
    desk.add("1.1.0", content=edited(desk.content(1), 100_000))
    desk.promote("stable", "1.0.0")
    roles = desk.repository.roles
    current = {f"{role.signed.version}.{name}.json" for name, role in roles.all().items()} | {"timestamp.json"}
    entry = desk.repository.channel("stable").entries[0]
    files = [
        *(desk.path / "metadata" / name for name in current if (desk.path / "metadata" / name).exists()),
        *(desk.path / "blobs").iterdir(),
        desk.path / "targets" / "releases" / f"{entry.manifest}.1.0.0.json",
    ]
    # Root and pages of an index and a blob, twice; and a table, a patch, and the difference of the indexes.
    assert len(files) == 8 + 2 * 3 + 3 + 1
    for file in files:
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(UpdatedError):
            verify(desk.repository, now=desk.now)
        os.unlink(file)
        with pytest.raises(UpdatedError):
            verify(desk.repository, now=desk.now)
        file.write_bytes(whole)
    verify(desk.repository, now=desk.now)


def test_verify_finds_a_channel_that_pins_another_release(desk: Desk) -> None:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    manifest = json.loads(desk.repository.channel("stable").format())
    manifest["releases"][0]["manifest"] = "0" * 64
    roles = desk.repository.roles
    publication = Publication(str(desk.path), roles, desk.keys, desk.now, ("stable",))
    publication.put("stable", "channels/stable.json", json.dumps(manifest).encode())
    publication.sign("stable")
    publication.commit()
    refused("wrong-digest", verify, desk.repository, now=desk.now)


def test_a_timestamp_of_another_repository_is_refused(desk: Desk, tmp_path: Path) -> None:
    other = initialize(str(tmp_path / "other"), KeyFolder(str(tmp_path / "k")), ["stable"], days={}, now=desk.now)
    (desk.path / "metadata" / "timestamp.json").write_bytes(other.read("metadata", "timestamp.json"))
    refused("metadata-invalid", lambda: desk.repository)


@pytest.mark.parametrize("forged", ["root", "targets", "snapshot", "timestamp", "releases", "stable"])
def test_what_the_key_of_another_role_signed_is_refused(desk: Desk, forged: str) -> None:
    roles = desk.repository.roles
    chain = {"root": ["root"], "timestamp": ["timestamp"], "snapshot": ["snapshot", "timestamp"]}
    for role in chain.get(forged, [forged, "snapshot", "timestamp"]):
        metadata = roles.all()[role]
        signer = desk.keys.signers(roles.keyids("beta" if role == forged else role)).signers[0]
        metadata.signed.version += 1
        metadata.sign(signer)
        data = metadata.to_bytes()
        meta = MetaFile.from_data(metadata.signed.version, data, ["sha256"])
        if role == "snapshot":
            roles.timestamp.signed.snapshot_meta = meta
        else:
            roles.snapshot.signed.meta[f"{role}.json"] = meta
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        (desk.path / "metadata" / name).write_bytes(data)
    assert f"the metadata of {forged}:" in refused("metadata-invalid", lambda: desk.repository)


def test_two_publishers_do_not_work_at_once(desk: Desk) -> None:
    with locked(str(desk.path)):
        refused("already-running", locked(str(desk.path)).__enter__)
    with locked(str(desk.path)):
        pass


def test_init_refuses_a_folder_in_use_and_odd_channels(desk: Desk, tmp_path: Path) -> None:
    fresh = KeyFolder(str(tmp_path / "fresh"))
    refused("bad-repository", initialize, str(desk.path), fresh, ["stable"], days={}, now=desk.now)
    for channels in (["targets"], ["releases"], ["root-1"], ["Stable"], ["../x"], ["a", "a"], []):
        refused("bad-request", initialize, str(tmp_path / "new"), fresh, channels, days={}, now=desk.now)
    for days in ({"nobody": 3}, {"stable": 0}):
        refused("bad-request", initialize, str(tmp_path / "new"), fresh, ["stable"], days=days, now=desk.now)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "fresh").exists()


def test_init_never_overwrites_a_key(desk: Desk, tmp_path: Path) -> None:
    before = {name: Path(desk.keys.path, name).read_bytes() for name in os.listdir(desk.keys.path)}
    refused("bad-key", initialize, str(tmp_path / "new"), desk.keys, ["other"], days={}, now=desk.now)
    assert {name: Path(desk.keys.path, name).read_bytes() for name in os.listdir(desk.keys.path)} == before


def test_a_client_with_another_root_trusts_nothing_here(desk: Desk, tmp_path: Path) -> None:
    initialize(str(tmp_path / "other"), KeyFolder(str(tmp_path / "k")), ["stable"], days={}, now=desk.now)
    root = (tmp_path / "other" / "metadata" / "1.root.json").read_bytes()
    with Client(desk.path, root) as stranger, pytest.raises(RepositoryError):
        stranger.fetch()
