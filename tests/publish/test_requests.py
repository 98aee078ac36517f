"""Rounds of signing: several people on several machines, none of whom has all the keys."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tests.publish.conftest import Desk
from tests.publish.synthetic import edited
from updated.core.errors import UpdatedError
from updated.core.release import Release, channel_target
from updated.core.version import Version
from updated.publish import keychange, review, rounds
from updated.publish.adding import add
from updated.publish.founding import initialize
from updated.publish.inspection import verify
from updated.publish.keys import KeyFolder
from updated.publish.publication import sign
from updated.publish.publisher import Shipping, promote, recall, refresh
from updated.publish.repository import Repository
from updated.publish.request import MOST_BYTES, Request
from updated.publish.waves import ramp

DAY = 86400
ONLINE = ("snapshot", "timestamp")


def refused(code: str, call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(UpdatedError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    return str(caught.value)


def published(desk: Desk) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in desk.path.rglob("*") if path.is_file()}


class Round:
    """A round about one request file."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.file = desk.images / "request.json"

    def ask(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Request:
        """Makes the request, by somebody who has no private keys."""
        repository = Repository(str(self.desk.path), request=str(self.file))
        before = published(self.desk)
        call(repository, self.desk.only(), *arguments, now=self.desk.now, **named)
        unchanged = {name: data for name, data in published(self.desk).items() if "/blobs/" not in name}
        assert unchanged == {name: data for name, data in before.items() if "/blobs/" not in name}
        return self.request

    @property
    def request(self) -> Request:
        return rounds.read(str(self.file))

    def sign(self, *names: str) -> dict[str, tuple[str, ...]]:
        """Somebody with these keys alone signs."""
        return rounds.add_signatures(str(self.file), self.desk.only(*names))

    def publish(self, *names: str, requests: list[Request] | None = None) -> None:
        """Publishes with the keys of snapshot and timestamp, or `names`."""
        requests = requests or [self.request]
        rounds.publish(self.desk.repository, self.desk.only(*names or ONLINE), requests, now=self.desk.now)

    def rotate_root(self) -> Request:
        """Asks for a new root key in place of the first one."""
        self.desk.key("fresh")
        old, new = self.desk.keyid("root-1"), self.desk.keys.record("fresh")
        return self.ask(keychange.rotate, "root", old, new)

    def words(self) -> str:
        return "\n".join(review.lines(self.request, self.desk.keys.names()))


@pytest.fixture
def signing(desk: Desk) -> Round:
    return Round(desk)


def test_a_root_key_is_rotated_by_people_who_never_meet(desk: Desk, signing: Round) -> None:
    node = desk.node("old")
    before = node.read()
    signing.rotate_root()
    assert set(signing.sign("root-2", "fresh")) == {"root"}  # enough for the new root, and not for the old one
    assert "too few signatures" in refused("bad-request", signing.publish)
    assert set(signing.sign("root-3")) == {"root"}
    assert node.read() == before

    signing.publish()

    assert node.read()["root"] == 2
    assert node.read() == desk.node("new").read()
    assert desk.keyid("fresh") in desk.repository.roles.keyids("root")
    verify(desk.repository, now=desk.now)


def test_a_new_root_needs_a_threshold_of_the_new_keys_as_well(desk: Desk, signing: Round) -> None:
    desk.key("four")
    desk.key("five")
    signing.ask(keychange.add, "root", desk.keys.record("four"), 4)
    signing.sign("root-1", "root-2", "root-3")
    old, new = (next(need for need in signing.request.needs() if need.old is flag) for flag in (True, False))
    assert (old.missing, new.missing) == (0, 1)
    assert "too few signatures" in refused("bad-request", signing.publish)
    signing.sign("four")
    signing.publish()
    assert desk.repository.roles.threshold("root") == 4
    assert desk.node().read()["root"] == 2


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "releases", "stable"])
def test_the_key_of_any_role_is_rotated_by_request(desk: Desk, signing: Round, role: str) -> None:
    node = desk.node("old")
    node.read()
    desk.key("fresh")
    signing.ask(keychange.rotate, role, desk.keyid(role), desk.keys.record("fresh"))
    signing.sign("root-1", "root-2", "targets")
    signing.sign("fresh", role)
    signing.publish(*ONLINE, "fresh")
    assert desk.repository.roles.keyids(role) == [desk.keyid("fresh")]
    assert node.read() == desk.node("new").read()


def test_a_release_is_added_shipped_and_recalled_by_request(desk: Desk, signing: Round) -> None:
    image = desk.images / "image"
    image.write_bytes(desk.content(1))
    draft = Release(Version("1.0.0"), "demo", int(desk.now), {}, "First one.")
    node = desk.node()

    signing.ask(add, draft, {"rootfs": str(image)}, level=1)
    assert desk.repository.versions == []
    assert "adds releases/1.0.0.json" in signing.words()
    assert "release 1.0.0 for demo" in signing.words()
    signing.sign("releases")
    signing.publish()
    signing.file.unlink()
    signing.ask(promote, "stable", "1.0.0", Shipping(ramp(2)))
    assert "ships 1.0.0 anew" in signing.words()
    signing.sign("stable")
    signing.publish()
    signing.file.unlink()
    signing.ask(recall, "stable", "1.0.0", "eats disks")
    assert '  recalled: null -> {"reason": "eats disks"}' in signing.words()
    signing.sign("stable")
    signing.publish()

    node.read()
    recalled = desk.repository.channel("stable").entries[0].recalled
    assert recalled is not None
    assert recalled.reason == "eats disks"
    verify(desk.repository, now=desk.now)


def test_long_lived_roles_are_renewed_by_request(desk: Desk, signing: Round) -> None:
    assert "nothing to ask for" in refused("bad-request", signing.ask, refresh)
    desk.now += 600 * DAY
    signing.ask(refresh)
    assert set(signing.request.new) == {"root", "targets", "releases", "stable", "beta", "alpha"}
    signing.sign("root-1", "root-3", "targets")
    signing.sign("releases", "stable", "beta", "alpha")
    signing.publish()
    assert desk.repository.roles.root.signed.expires.timestamp() > desk.now + 700 * DAY
    assert desk.node().read()["root"] == 2


def test_copies_that_were_signed_at_the_same_time_are_published_together(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    copies = []
    for name in ("root-2", "root-3"):
        copy = desk.images / f"for-{name}"
        shutil.copy(signing.file, copy)
        rounds.add_signatures(str(copy), desk.only(name))
        copies.append(rounds.read(str(copy)))
    assert len({copy.fingerprint for copy in copies}) == 1
    signing.publish(requests=copies)
    assert desk.node().read()["root"] == 2


def test_requests_for_different_things_are_not_taken_together(desk: Desk, signing: Round) -> None:
    first = signing.rotate_root()
    signing.file.unlink()
    second = signing.ask(keychange.set_threshold, "root", 1)
    assert first.fingerprint != second.fingerprint
    assert "not copies of one" in refused("bad-request", signing.publish, requests=[first, second])


def test_only_what_the_request_asks_for_is_signed(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    before = signing.file.read_bytes()
    assert signing.sign("targets", "snapshot", "timestamp", "releases", "stable") == {}
    assert signing.file.read_bytes() == before
    assert signing.sign("root-2", "targets") == {"root": (desk.keyid("root-2"),)}
    assert signing.sign("root-2") == {}


def test_whoever_asks_signs_with_the_keys_that_are_there(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    repository = Repository(str(desk.path), request=str(signing.file))
    promote(repository, desk.keys, "stable", "1.0.0", Shipping(), now=desk.now)
    assert not any(need.missing for need in signing.request.needs())
    signing.publish()
    assert desk.repository.channel("stable").entries[0].version == Version("1.0.0")


# --------------------------------------------------------------------------------------------------------- review


def test_the_review_names_keys_thresholds_and_expiries(desk: Desk, signing: Round) -> None:
    fresh = desk.key("fresh", "ecdsa-p256")
    signing.ask(keychange.add, "root", fresh, 3)
    words = signing.words()
    assert words.startswith("root: version 1 to 2, expires ")
    assert f"root: takes in fresh, ecdsa-sha2-nistp256, key id {fresh.keyid}" in words
    assert "root: needs 3 signatures instead of 2" in words
    assert f"root: then 3 of root-1 ({desk.keyid('root-1')[:16]}), root-2 (" in words
    unknown = "\n".join(review.lines(signing.request, {}))
    assert f"takes in a key that is not known here, ecdsa-sha2-nistp256, key id {fresh.keyid}" in unknown
    assert f"then 3 of {desk.keyid('root-1')}, " in unknown


def test_the_review_says_who_signed_and_who_is_missing(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    signing.sign("root-2")
    new, old = review.needs(signing.request, desk.keys.names())
    assert new.startswith("root: 1 of 2 signatures (by root-2 (")
    assert "1 missing, of fresh (" in new
    assert "root-3 (" in new
    assert old.startswith("root, by the keys that it has had so far: 1 of 2")
    signing.sign("root-3")
    assert all(line.endswith("; enough") for line in review.needs(signing.request, {}))


def test_what_a_thief_hides_in_a_request_is_in_its_review(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    stable = signing.request.new["stable"]
    stable.signed.unrecognized_fields["x-updated-lifetime-days"] = 36500
    stable.signed.unrecognized_fields["x-note\x1b[2J"] = "harmless\x1b[2J"
    request = replace(signing.request, new={"stable": stable})
    words = "\n".join(review.lines(request, {}))
    assert "x-updated-lifetime-days: 90 -> 36500" in words
    assert r'x-note\u001b[2J: null -> "harmless\u001b[2J"' in words
    assert "\x1b" not in words


def test_a_request_about_another_repository_is_found_out_by_the_root_that_one_knows(
    desk: Desk, signing: Round, tmp_path: Path
) -> None:
    """A thief shows a root of their own, which has their key already, and asks to renew it."""
    known = tmp_path / "root.json"
    known.write_bytes(desk.root)
    keys = KeyFolder(str(tmp_path / "thief-keys"))
    thief = keys.generate("thief")
    repository = initialize(
        str(tmp_path / "thief"), keys, ["stable"], days={"root": 1}, now=desk.now, members={"root": ["thief"]},
        thresholds={"root": 1},
    )  # fmt: skip
    for name in ("root-1", "root-2"):
        keychange.add(repository, keys, "root", desk.keys.record(name), None, now=desk.now)
        repository = Repository(repository.path)
    refresh(Repository(repository.path, request=str(signing.file)), keys, now=desk.now + DAY)

    assert f"root: then 1 of {thief.keyid}, root-1" in signing.words()
    before = signing.file.read_bytes()
    assert "does not follow the root" in refused(
        "bad-request", rounds.add_signatures, str(signing.file), desk.keys, str(known)
    )
    assert signing.file.read_bytes() == before
    signing.file.unlink()
    signing.rotate_root()
    assert rounds.add_signatures(str(signing.file), desk.only("root-2", "root-3"), str(known))
    signing.publish()
    signing.file.unlink()
    signing.ask(keychange.set_threshold, "root", 3)
    rounds.read(str(signing.file), str(known))
    assert "Name what" in refused("bad-request", rounds.read, str(signing.file), str(tmp_path / "nothing"))


def test_a_renewal_is_called_one(desk: Desk, signing: Round) -> None:
    desk.now += 70 * DAY
    signing.ask(refresh)
    assert signing.words().count("  nothing but version and expiry") == 3


# ----------------------------------------------------------------------------- what is refused, and changes nothing


def as_text(request: Request, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(request.format())
    change(document)
    return json.dumps(document).encode()


def inside(document: dict[str, Any], part: str, role: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document[part][role])
    return found


def in_metadata(part: str, role: str, change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def changed(document: dict[str, Any]) -> None:
        metadata = inside(document, part, role)
        change(metadata)
        document[part][role] = json.dumps(metadata)

    return changed


def more_threshold(metadata: dict[str, Any]) -> None:
    metadata["signed"]["roles"]["root"]["threshold"] = 1


def without_snapshots(metadata: dict[str, Any]) -> None:
    metadata["signed"]["consistent_snapshot"] = False
    metadata["signatures"] = []


def jump(metadata: dict[str, Any]) -> None:
    metadata["signed"]["version"] = 7
    metadata["signatures"] = []


def unsigned_base(metadata: dict[str, Any]) -> None:
    metadata["signatures"] = metadata["signatures"][:1]


def online(document: dict[str, Any]) -> None:
    for part in ("new", "base"):
        document[part]["snapshot"] = document["base"]["targets"]


def other_type(document: dict[str, Any]) -> None:
    document["new"]["root"] = document["base"]["targets"]


ROOT_TAMPERING: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a threshold": (in_metadata("new", "root", more_threshold), "was changed after it was signed"),
    "the base": (in_metadata("base", "root", more_threshold), "root"),
    "a base that nobody signed": (in_metadata("base", "root", unsigned_base), "root"),
    "snapshots": (in_metadata("new", "root", without_snapshots), "consistent snapshots"),
    "a version": (in_metadata("new", "root", jump), "2 comes next"),
    "a type": (other_type, "another type"),
    "a role less": (lambda document: document["base"].pop("targets"), "not a change and what it follows"),
    "no change": (lambda document: document["new"].clear(), "not a change and what it follows"),
    "a role that is online": (online, "not one that is signed on request"),
    "no metadata": (lambda document: document["new"].update(root="{}"), "is no metadata"),
    "a file": (lambda document: document["files"].update({"channels/stable.json": "{}"}), "channels/stable.json"),
    "an old file": (lambda document: document["old_files"].update({"channels/beta.json": "{}"}), "channels/beta.json"),
    "an unknown key": (lambda document: document.update(more=1), "more is not a known key"),
    "a schema": (lambda document: document.update(schema=2), "schema"),
}


@pytest.mark.parametrize("what", ROOT_TAMPERING)
def test_a_request_that_was_tampered_with_is_refused(desk: Desk, signing: Round, what: str) -> None:
    signing.rotate_root()
    signing.sign("root-2", "root-3")
    change, cause = ROOT_TAMPERING[what]
    data = as_text(signing.request, change)
    signing.file.write_bytes(data)
    before = published(desk)
    for call in (signing.publish, lambda: signing.sign("fresh")):
        assert cause in refused("bad-request", call)
    assert published(desk) == before
    assert signing.file.read_bytes() == data


def test_a_signature_of_somebody_who_was_not_asked_is_refused(desk: Desk, signing: Round) -> None:
    request = signing.rotate_root()
    (signer,) = desk.keys.signers([desk.keyid("beta")]).signers
    sign(request.new["root"], signer)
    signing.file.write_bytes(request.format())
    assert "is not asked to sign it" in refused("bad-request", lambda: signing.request)


def test_the_content_of_a_target_is_what_was_signed(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    desk.add("1.1.0", content=edited(desk.content(1), 5))
    desk.promote("stable", "1.0.0")
    signing.ask(promote, "stable", "1.1.0", Shipping())
    signing.sign("stable")
    path = channel_target("stable")
    for part in ("files", "old_files"):
        document = json.loads(signing.file.read_bytes())
        document[part][path] += " "
        refused("bad-request", Request.parse, json.dumps(document).encode(), "x")
        document[part].clear()
        refused("bad-request", Request.parse, json.dumps(document).encode(), "x")
    signing.publish()


def test_a_role_never_signs_for_the_targets_of_another(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    request = signing.ask(promote, "beta", "1.0.0", Shipping())
    targets = request.new["beta"].signed.targets
    targets["channels/stable.json"] = targets["channels/beta.json"]
    content = {"channels/stable.json": request.files["channels/beta.json"], **request.files}
    forged = replace(request, files=content).format()
    assert "more than its own targets" in refused("bad-request", Request.parse, forged, "x")


@pytest.mark.parametrize("field", ["paths", "terminating", "name", "threshold", "keyids"])
def test_delegations_stay_what_they_are_but_for_keys(desk: Desk, signing: Round, field: str) -> None:
    desk.key("fresh")
    request = signing.ask(keychange.rotate, "alpha", desk.keyid("alpha"), desk.keys.record("fresh"))
    value: Any = {
        "paths": ["channels/*"], "terminating": False, "name": "nightly", "threshold": 2,
        "keyids": [desk.keyid("fresh"), desk.keyid("stable")],
    }[field]  # fmt: skip

    def change(metadata: dict[str, Any]) -> None:
        role = next(role for role in metadata["signed"]["delegations"]["roles"] if role["name"] == "alpha")
        role[field] = value
        metadata["signatures"] = []

    with pytest.raises(UpdatedError):
        Request.parse(as_text(request, in_metadata("new", "targets", change)), "x")


def test_every_single_bit_of_a_signed_request_counts(desk: Desk, signing: Round) -> None:
    """Or makes no difference to what was signed, as a space between two words of JSON."""
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    signing.sign("stable")
    data = signing.file.read_bytes()
    whole = signing.request
    harmless = 0
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1
        try:
            request = Request.parse(bytes(flipped), "x")
        except UpdatedError as error:
            assert error.code in ("bad-request", "bad-key")  # noqa: PT017
            continue
        harmless += 1
        assert request.fingerprint == whole.fingerprint
        assert request.new["stable"].signed == whole.new["stable"].signed
    assert harmless < len(data) / 70


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schema": 1}', b"[" * 100_000, b'{"a": 1, "a": 2}'])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    refused("bad-request", Request.parse, data, "x")


def test_a_request_of_any_length_is_not_read_as_a_whole(signing: Round) -> None:
    with open(signing.file, "wb") as file:
        file.truncate(MOST_BYTES * 4096)
    assert f"more than {MOST_BYTES} bytes" in refused("bad-request", lambda: signing.request)


def test_a_request_that_something_else_came_before_is_refused(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    signing.sign("stable")
    desk.promote("stable", "1.0.0", Shipping(ramp(5)))
    before = published(desk)
    assert "does not follow what is published now" in refused("bad-request", signing.publish)
    assert published(desk) == before


def test_a_request_is_published_once(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    signing.sign("root-2", "root-3")
    signing.publish()
    before = published(desk)
    assert "was made for version 1, and there is version 2" in refused("bad-request", signing.publish)
    assert published(desk) == before


def test_what_others_published_meanwhile_in_other_roles_is_no_hindrance(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    signing.sign("stable")
    desk.promote("beta", "1.0.0")
    refresh(desk.repository, desk.keys, now=desk.now)
    signing.publish()
    assert desk.repository.channel("stable").entries
    assert desk.repository.channel("beta").entries


def test_signatures_count_by_the_keys_that_the_role_has_when_it_is_published(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    signing.sign("stable")
    desk.key("second")
    keychange.rotate(
        desk.repository, desk.keys, "beta", desk.keyid("beta"), desk.keys.record("second"), now=desk.now
    )
    signing.publish()
    signing.file.unlink()
    signing.ask(recall, "stable", "1.0.0", "bad")
    signing.sign("stable")
    desk.key("third")
    desk.rotate("stable", "stable", "third")
    before = published(desk)
    refused("bad-request", signing.publish)
    assert published(desk) == before


def test_a_request_does_not_wait_for_ever(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    signing.sign("root-2", "root-3")
    before = published(desk)
    desk.now += 731 * DAY
    assert "too early" in refused("bad-request", signing.publish)
    desk.now -= 760 * DAY
    assert "too late" in refused("bad-request", signing.publish)
    assert published(desk) == before


def test_without_the_keys_of_snapshot_and_timestamp_nothing_is_published(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    signing.sign("root-2", "root-3")
    before = published(desk)
    assert "the role timestamp" in refused("bad-key", signing.publish, "snapshot")
    assert published(desk) == before


def test_a_release_whose_files_are_not_there_is_not_published(desk: Desk, signing: Round) -> None:
    image = desk.images / "image"
    image.write_bytes(desk.content(1))
    draft = Release(Version("1.0.0"), "demo", int(desk.now), {}, "")
    signing.ask(add, draft, {"rootfs": str(image)}, level=1)
    signing.sign("releases")
    before = published(desk)
    files = list((desk.path / "blobs").iterdir())
    assert len(files) == 3  # root and pages of the index, and the blob
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        assert f"release 1.0.0, rootfs: blobs/{file.name}" in refused("wrong-digest", signing.publish)
        file.write_bytes(whole)
    assert published(desk) == before
    signing.publish()


def test_a_channel_is_not_published_that_ships_a_damaged_release(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    signing.ask(promote, "stable", "1.0.0", Shipping())
    signing.sign("stable")
    before = published(desk)
    file = desk.blob(desk.component("1.0.0").blob)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"blobs/{file.name}: is not as its digest says" in refused("wrong-digest", signing.publish)
    file.unlink()
    os.mkfifo(file)  # is not waited for
    assert f"blobs/{file.name}: is no file" in refused("bad-repository", signing.publish)
    file.unlink()
    file.write_bytes(whole)
    assert published(desk) == before
    signing.publish()


def test_a_channel_ships_only_what_is_published(desk: Desk, signing: Round) -> None:
    desk.add("1.0.0")
    request = signing.ask(promote, "stable", "1.0.0", Shipping())
    path = channel_target("stable")
    entry = desk.repository.release("1.0.0")[1]
    data = request.files[path].replace(entry.encode(), b"0" * 64)
    stable: Metadata[Any] = request.new["stable"]
    stable.signed.targets[path] = stable.signed.targets[path].from_data(path, data, ["sha256"])
    signing.file.write_bytes(replace(request, files={path: data}).format())
    signing.sign("stable")
    before = published(desk)
    assert "is not the one that is published" in refused("bad-request", signing.publish)
    assert published(desk) == before


def test_a_request_file_is_never_overwritten(desk: Desk, signing: Round) -> None:
    signing.rotate_root()
    before = signing.file.read_bytes()
    assert "is there already" in refused("bad-request", signing.ask, keychange.set_threshold, "root", 1)
    assert signing.file.read_bytes() == before


def test_a_key_folder_without_the_asked_keys_may_be_missing(desk: Desk, signing: Round, tmp_path: Path) -> None:
    desk.add("1.0.0")
    repository = Repository(str(desk.path), request=str(signing.file))
    promote(repository, KeyFolder(str(tmp_path / "none")), "stable", "1.0.0", Shipping(), now=desk.now)
    assert [need.missing for need in signing.request.needs()] == [1]
