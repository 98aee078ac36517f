"""The client that the conformance suite of TUF judges, as a process against a server of our own.

A case for each group of that suite; how a node behaves beyond it is told in tests/trust.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from tests.conformance.bench import Bench
from tests.fakes.repository import DAY

TOP = ["root.json", "snapshot.json", "targets.json", "timestamp.json"]
needs_faketime = pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    thread = threading.Thread(target=bench.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield bench
    bench.server.shutdown()
    thread.join()
    bench.server.server_close()


# -------------------------------------------------------------------------------------------------------------- basic


def test_a_refresh_asks_for_each_role_once_and_keeps_its_bytes(bench: Bench) -> None:
    assert bench.published().refresh() == 0
    asked = ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert bench.server.names == [f"metadata/{name}.json" for name in asked]
    assert sorted(bench.trusted()) == TOP
    for role in ("timestamp", "snapshot", "targets", "root"):
        file = Path(bench.repository.directory, bench.repository.metadata_name(role))
        assert (bench.metadata / f"{role}.json").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"{}", None], ids=["empty", "no metadata", "unsigned"])
def test_a_root_of_trust_that_is_none_is_refused_before_any_request(bench: Bench, damage: bytes | None) -> None:
    bench.repository.publish()
    unsigned = json.loads(bench.repository.root_of_trust) | {"signatures": []}
    (bench.folder / "root.json").write_bytes(json.dumps(unsigned).encode() if damage is None else damage)
    bench.run("--metadata-dir", str(bench.metadata), "init", str(bench.folder / "root.json"))
    assert bench.refresh() == 1
    assert bench.server.names == []


def test_a_role_that_is_not_signed_is_not_kept_and_those_before_it_are(bench: Bench) -> None:
    bench.repository.keys["snapshot"] = [CryptoSigner.generate_ed25519()]
    bench.published()
    bench.repository.keys["snapshot"] = [CryptoSigner.generate_ed25519()]
    bench.published()
    assert bench.refresh() == 1
    assert bench.trusted() == {"root.json": 1, "timestamp.json": 2}


def test_the_same_version_in_other_bytes_changes_nothing(bench: Bench) -> None:
    bench.published().refresh()
    kept = (bench.metadata / "timestamp.json").read_bytes()
    bench.repository.set_expiry("timestamp", bench.now + 3 * DAY)
    bench.repository._sign("timestamp", bench.repository._timestamp())
    assert bench.refresh() == 0
    assert (bench.metadata / "timestamp.json").read_bytes() == kept


def test_a_server_that_is_gone_is_a_failure(bench: Bench) -> None:
    bench.published()
    assert bench.run("--metadata-dir", str(bench.metadata), "--metadata-url", "http://127.0.0.1:9/", "refresh") == 1


def test_a_folder_serves_as_well(bench: Bench) -> None:
    bench.add("x", b"x")
    bench.published()
    places = [f"file://{bench.repository.directory}/{folder}" for folder in ("metadata", "targets")]
    assert bench.run(
        "--metadata-dir", str(bench.metadata), "--metadata-url", places[0], "--target-name", "x",
        "--target-base-url", places[1], "--target-dir", str(bench.downloads), "download",
    ) == 0  # fmt: skip
    assert bench.downloaded() == [b"x"]


# --------------------------------------------------------------------------------------------------------- expiration


@needs_faketime
@pytest.mark.parametrize("role", ["root", "timestamp", "targets"])
def test_what_expires_is_refused_from_that_day_on(bench: Bench, role: str) -> None:
    bench.repository.set_expiry(role, bench.now + 7 * DAY)
    bench.published()
    assert bench.refresh(at=bench.now + 6 * DAY) == 0
    assert bench.refresh(at=bench.now + 8 * DAY) == 1
    # No clock that is set back makes it valid again, as far as this node has seen the time.
    bench.repository.set_expiry(role, bench.now + 20 * DAY)
    bench.published()
    assert bench.refresh(at=bench.now + 8 * DAY) == 0
    bench.repository.set_expiry(role, bench.now + 7 * DAY)
    bench.published()
    assert bench.refresh(at=bench.now) == 1


@needs_faketime
def test_a_delegated_role_expires_too_and_a_newer_one_is_taken(bench: Bench) -> None:
    bench.repository.delegate("targets", "team", ["team/*"])
    bench.repository.set_expiry("team", bench.now + 7 * DAY)
    bench.add("team/x", b"x", "team")
    bench.published()
    assert bench.download("team/x") == 0
    bench.add("team/y", b"y", "team")
    assert bench.download("team/x", at=bench.now + 8 * DAY) == 1
    bench.repository.set_expiry("team", bench.now + 20 * DAY)
    bench.published()
    assert bench.download("team/y", at=bench.now + 8 * DAY) == 0
    assert bench.downloaded() == [b"x", b"y"]


# --------------------------------------------------------------------------------------------------------------- keys

SCHEMES: dict[str, Callable[[], CryptoSigner]] = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "rsassa-pss-sha256": CryptoSigner.generate_rsa,
    "rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_signatures_of_each_scheme_are_verified(bench: Bench, scheme: str) -> None:
    repository = bench.repository
    for role in ("timestamp", "snapshot", "targets", "releases"):
        repository.keys[role] = [SCHEMES[scheme]()]
    bench.add("releases/x", b"x", "releases")
    bench.published()
    assert bench.download("releases/x") == 0
    file = Path(repository.directory, "metadata/timestamp.json")
    repository.publish()
    forged = json.loads(file.read_bytes())
    signature = forged["signatures"][0]["sig"]
    forged["signatures"][0]["sig"] = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    file.write_text(json.dumps(forged))
    assert bench.refresh() == 1
    assert bench.trusted()["timestamp.json"] == 1


def test_a_threshold_counts_each_key_once(bench: Bench) -> None:
    repository = bench.repository
    repository.thresholds["snapshot"] = 2
    repository.keys["snapshot"] = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa()]
    bench.published()
    assert bench.refresh() == 0
    repository.keys["snapshot"].pop()
    bench.published()
    assert bench.refresh() == 1
    file = Path(repository.directory, repository.metadata_name("snapshot"))
    twice = json.loads(file.read_bytes())
    twice["signatures"] *= 2
    file.write_text(json.dumps(twice))
    assert bench.refresh() == 1
    assert bench.trusted()["snapshot.json"] == 1


# ------------------------------------------------------------------------------------------------------------ quoting


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "a b"])
def test_the_name_of_a_role_is_quoted_in_urls_and_leads_nowhere(bench: Bench, role: str) -> None:
    bench.repository.delegate("targets", role, ["*"])
    bench.add("x", b"x", role)
    bench.published()
    assert bench.download("x") == 0
    assert bench.repository.metadata_name(role) in bench.server.names
    assert len(bench.trusted()) == 5
    assert list(bench.folder.glob("*role*")) == []


# ----------------------------------------------------------------------------------------- rollback, and the way back


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_version_does_not_fall(bench: Bench, role: str) -> None:
    repository = bench.repository
    bench.published()
    repository._dirty.add("targets")
    bench.published()
    assert bench.refresh() == 0
    trusted = bench.trusted()
    repository.versions[role] = 0
    if role == "timestamp":
        repository.versions["snapshot"] -= 1
    repository._dirty.add("targets")
    repository.publish()
    assert bench.refresh() == 1
    assert bench.trusted()[f"{role}.json"] == trusted[f"{role}.json"]


@pytest.mark.parametrize("rotated", ["timestamp", "snapshot"])
def test_versions_that_a_thief_ran_up_are_forgotten_with_his_key(bench: Bench, rotated: str) -> None:
    repository = bench.repository
    for role in ("timestamp", "snapshot", "targets"):
        repository.versions[role] = 1000
    bench.published()
    assert bench.refresh() == 0
    for role in ("timestamp", "snapshot", "targets"):
        repository.versions[role] = 4
    repository._dirty.add("targets")
    repository.publish()
    assert bench.refresh() == 1
    repository.rotate_key(rotated)
    repository._dirty.add("targets")
    repository.publish()
    assert bench.refresh() == 0
    assert bench.trusted()["timestamp.json"] == 6


# ---------------------------------------------------------------------------------------------------------- rotations


def test_roots_are_followed_one_by_one_and_each_by_its_predecessor_s_keys(bench: Bench) -> None:
    bench.published().refresh()
    for _ in range(3):
        bench.repository.rotate_key("root")
        bench.published()
    assert bench.refresh() == 0
    assert bench.trusted()["root.json"] == 4
    bench.repository.keys["root"] = [CryptoSigner.generate_ed25519() for _ in range(3)]
    bench.repository._dirty.add("root")
    bench.published()
    assert bench.refresh() == 1
    assert bench.trusted()["root.json"] == 4


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_rotated_key_is_followed_and_the_old_one_counts_no_more(bench: Bench, role: str) -> None:
    bench.published().refresh()
    stolen = bench.repository.keys[role]
    bench.repository.rotate_key(role)
    bench.published()
    assert bench.refresh() == 0
    bench.repository.keys[role] = stolen
    bench.repository._dirty |= {role} & {"targets"}
    bench.repository.publish()
    assert bench.refresh() == 1
    assert bench.trusted()["root.json"] == 2


# -------------------------------------------------------------------------------------------------------- delegations

GRAPHS: dict[str, tuple[list[tuple[str, str, str, bool]], str]] = {
    # (delegator, role, paths, terminating), and the order in which roles are visited for the path "x"
    "one": ([("targets", "A", "*", False)], "A"),
    "depth first": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("A", "C", "*", False), ("C", "D", "*", False)],
        "ACDB",
    ),
    "terminating": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("A", "C", "*", True), ("A", "D", "*", False)],
        "AC",
    ),
    "only what the paths say": (
        [("targets", "A", "*.py", False), ("targets", "B", "*", False), ("B", "C", "x/*", False)], "B",
    ),
    "a cycle": (
        [("targets", "A", "*", False), ("A", "B", "*", False), ("B", "A", "*", False)], "AB",
    ),
    "two delegators": (
        [("targets", "A", "*", False), ("targets", "B", "*", False), ("B", "C", "*", False), ("A", "C", "*", False)],
        "ACB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS)
def test_delegations_are_searched_in_their_order(bench: Bench, graph: str) -> None:
    delegations, order = GRAPHS[graph]
    for delegator, role, paths, terminating in delegations:
        bench.repository.delegate(delegator, role, [paths], terminating=terminating)
    bench.published()
    assert bench.download("x") == 1
    assert bench.server.names[4:] == [f"metadata/1.{role}.json" for role in order]


def test_a_role_counts_only_by_way_of_who_trusts_its_key(bench: Bench) -> None:
    """Both targets are looked up by one process, and the role is cached when it comes to the second."""
    repository = bench.repository
    for parent in ("a", "b"):
        repository.delegate("targets", f"parent-{parent}", [f"{parent}/*"])
    own = CryptoSigner.generate_ecdsa()
    repository.delegate("parent-a", "shared", ["a/*"], keys=[own])
    repository.delegate("parent-b", "shared", ["b/*"], keys=[CryptoSigner.generate_ecdsa()])
    repository.keys["shared"] = [own]
    bench.add("a/x", b"a", "shared")
    bench.add("b/x", b"b", "shared")
    bench.published()
    assert bench.download("a/x", "b/x") == 1
    assert bench.downloaded() == [b"a"]
    assert bench.download("b/x") == 1
    assert bench.download("a/x") == 0


def test_a_role_that_the_snapshot_does_not_list_is_not_even_asked_for(bench: Bench) -> None:
    bench.repository.delegate("targets", "hidden", ["hidden/*"])
    bench.published()
    del bench.repository.contents["hidden"]
    bench.published()
    assert bench.refresh() == 0
    asked = len(bench.server.names)
    assert bench.download("hidden/x") == 1
    assert bench.server.names[asked:] == ["metadata/2.root.json", "metadata/timestamp.json"]


# ---------------------------------------------------------------------------------------------------------- downloads


def test_a_target_is_what_was_signed_or_nothing(bench: Bench) -> None:
    bench.add("folder/x", b"as signed")
    bench.add("other", b"as signed too")
    bench.published()
    assert bench.download("folder/x") == 0
    for file in Path(bench.repository.directory, "targets").rglob("*"):
        if file.is_file():
            file.write_bytes(b"malicious")
    assert bench.download("other") == 1
    assert bench.downloaded() == [b"as signed"]


def test_what_is_there_already_is_not_fetched_again_and_a_change_replaces_it(bench: Bench) -> None:
    bench.add("x", b"first")
    bench.published()
    assert bench.download("x") == 0
    (file,) = bench.downloads.iterdir()
    written = file.stat().st_mtime_ns
    assert bench.download("x") == 0
    assert len([name for name in bench.server.names if name.startswith("targets/")]) == 1
    assert file.stat().st_mtime_ns == written
    bench.add("x", b"second")
    bench.published()
    assert bench.download("x") == 0
    assert [path.read_bytes() for path in bench.downloads.iterdir()] == [b"second"]


def test_targets_come_in_their_order_until_one_fails(bench: Bench) -> None:
    for name in ("x", "y"):
        bench.add(name, name.encode())
    bench.published()
    assert bench.download("y", "missing", "x") == 1
    assert bench.downloaded() == [b"y"]


@pytest.mark.parametrize("algorithms", [["sha256"], ["sha512"], ["sha256", "sha512"]])
def test_a_target_may_be_listed_with_either_digest(bench: Bench, algorithms: list[str]) -> None:
    repository = bench.repository
    bench.add("x", b"x")
    bench.published()
    targets = repository._targets("targets")
    file = targets.targets["x"].from_data("x", b"x", algorithms)
    targets.targets["x"] = file
    targets.version = repository.versions["targets"] = 2
    repository._sign("targets", targets)
    repository.publish()
    for digest in file.hashes.values():
        Path(repository.directory, f"targets/{digest}.x").write_bytes(b"x")
    assert bench.download("x") == 0
    assert bench.downloaded() == [b"x"]


def test_without_consistent_snapshots_names_have_no_versions(bench: Bench) -> None:
    bench.repository.consistent = False
    bench.add("x", b"x")
    bench.published()
    assert bench.download("x") == 0
    asked = ["metadata/2.root", "metadata/timestamp", "metadata/snapshot", "metadata/targets"]
    assert bench.server.names == [*(f"{name}.json" for name in asked), "targets/x"]
