"""A bad repository or server: nothing of it reaches the running slot, and the next cycle mends what it left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.http.server import Answer, Handler, ScriptedServer, ranged, status
from tests.node.bench import FAILED, Active, Bench, bench, copied, files_except, flip, start_once
from updated.publish.keys import KeyFolder
from updated.publish.publisher import refresh
from updated.publish.repository import Repository

DAY = 86400


# ------------------------------------------------------------------------------- what the node tries several times


METADATA, INDEX, BLOB = "metadata/timestamp", "an index", "a blob"


def kind(handler: Handler) -> str:
    """Which file is asked for; only blobs are asked for in ranges."""
    if "/blobs/" in handler.path:
        return BLOB if "Range" in handler.headers else INDEX
    return METADATA if "timestamp" in handler.path else "another"


@contextmanager
def spoiled(folder: Path, spoiled_kind: str, fault: Callable[[bytes], Answer]) -> Iterator[Bench]:
    """A bench whose server answers with `fault` where the node asks for one kind of file."""

    def spoil(handler: Handler, data: bytes) -> Answer | None:
        return fault(data) if kind(handler) == spoiled_kind else None

    files = files_except(lambda: folder / "publisher/repository", spoil)
    with ScriptedServer(files) as server, bench(folder, server.url) as node:
        node.ship()
        yield node


@contextmanager
def shortened(folder: Path) -> Iterator[Bench]:
    """nginx has but the first half of the blob."""
    with bench(folder) as node:
        node.ship()
        whole = node.blob("blob").read_bytes()
        node.blob("blob").write_bytes(whole[: len(whole) // 2])
        (folder / "whole").write_bytes(whole)
        yield node


@contextmanager
def unreachable(folder: Path) -> Iterator[Bench]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with bench(folder, f"http://127.0.0.1:{taken.getsockname()[1]}/") as node:
            node.ship()
            yield node


def cut(data: bytes) -> Answer:
    """Each answer breaks off after a piece so small that it does not count as progress."""
    return ranged(data, stop_after=len(data) // 20)


OUTAGES: dict[str, tuple[Callable[[Path], AbstractContextManager[Bench]], str, list[str]]] = {
    "unreachable": (unreachable, "unreachable", ["127.0.0.1", "Connection refused", "Check the network"]),
    "status 503": (
        lambda folder: spoiled(folder, METADATA, lambda data: status(503)), "http-status",
        ["timestamp.json", "HTTP status 503", "Look at the log of the web server"],
    ),
    "truncated metadata": (
        lambda folder: spoiled(folder, METADATA, cut), "truncated", ["timestamp.json", "did not come whole"]
    ),
    "truncated index": (lambda folder: spoiled(folder, INDEX, cut), "truncated", ["/blobs/", "did not come whole"]),
    "blob cut in the middle": (
        lambda folder: spoiled(folder, BLOB, cut), "truncated", ["/blobs/", "did not come whole", "Check the network"]
    ),
    "blob that is shorter on the server": (
        shortened, "truncated", ["/blobs/", "is shorter on the server", "the publisher must"]
    ),
}


@dataclass
class Outage:
    """A node that met one, and what it said."""

    node: Bench
    before: Active
    text: str


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outage]]:
    """The node waits between its tries, so all of these happen at once."""
    with ExitStack() as stack:
        nodes = {
            name: stack.enter_context(outage(tmp_path_factory.mktemp("outage")))
            for name, (outage, _, _) in OUTAGES.items()
        }
        before = {name: node.active() for name, node in nodes.items()}
        with ThreadPoolExecutor(len(nodes)) as pool:
            texts = dict(zip(nodes, pool.map(lambda node: node.once(FAILED), nodes.values()), strict=True))
        yield {name: Outage(node, before[name], texts[name]) for name, node in nodes.items()}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_told_and_the_running_slot_stays(outages: dict[str, Outage], name: str) -> None:
    outage, (_, code, words) = outages[name], OUTAGES[name]
    outage.node.tells(outage.text, code, *words)
    assert outage.node.active() == outage.before


def use_a_mirror(node: Bench) -> None:
    """Lets the node take the repository, whole, from a directory."""
    whole = node.repository.parent.parent / "whole"
    if whole.exists():
        node.blob("blob").write_bytes(whole.read_bytes())
    node.machine.write_config(re.sub(r'url = ".*"', 'url = "file:///mirror"', node.machine.config))
    copied(node.repository, node.root / "mirror")


@pytest.mark.parametrize("name", OUTAGES)
def test_when_the_outage_is_over_the_update_goes_on(outages: dict[str, Outage], name: str) -> None:
    use_a_mirror(outages[name].node)
    outages[name].node.updates()


# ------------------------------------------------------------------------------------ what is missing or damaged


@pytest.fixture
def refusing(shared: Bench) -> Bench:
    """One node for all that is refused before anything is written, each time as if it had never asked before."""
    for path in shared.machine.state.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return shared


@contextmanager
def without(node: Bench, paths: list[Path]) -> Iterator[None]:
    """Takes files off the web server for a while."""
    away = node.machine.folder / "away"
    away.mkdir()
    for path in paths:
        shutil.move(path, away / path.name)
    yield
    for path in paths:
        shutil.move(away / path.name, path)
    away.rmdir()


@contextmanager
def flipped(paths: list[Path]) -> Iterator[None]:
    """Changes one byte of each file for a while."""
    for path in paths:
        flip(path)
    yield
    for path in paths:
        flip(path)


NOT_THERE = ("http://127.0.0.1", "is not there (HTTP status 404)", "Check the address of the repository")


@pytest.mark.parametrize(
    "pattern",
    ["metadata/timestamp.json", "metadata/*.snapshot.json", "metadata/*.targets.json", "metadata/*.stable.json",
     "targets/channels/*.stable.json", "targets/releases/*.1.1.0.json"],
)  # fmt: skip
def test_a_signed_file_that_the_server_lacks_is_named(refusing: Bench, pattern: str) -> None:
    with without(refusing, list(refusing.repository.glob(pattern))):
        refusing.refuses_untouched("not-found", *NOT_THERE)


@pytest.mark.parametrize(
    ("pattern", "code", "words"),
    [
        ("metadata/timestamp.json", "metadata-invalid", "metadata/timestamp.json: does not verify"),
        ("metadata/*.snapshot.json", "metadata-invalid", "snapshot.json: does not verify"),
        ("metadata/*.targets.json", "metadata-invalid", "targets.json: does not verify"),
        ("metadata/*.stable.json", "metadata-invalid", "stable.json: does not verify"),
        ("targets/channels/*.stable.json", "wrong-digest", "the target channels/stable.json: differs from what was"),
        ("targets/releases/*.1.1.0.json", "wrong-digest", "the target releases/1.1.0.json: differs from what was"),
    ],
)
def test_a_signed_file_with_one_other_byte_is_refused(refusing: Bench, pattern: str, code: str, words: str) -> None:
    with flipped(list(refusing.repository.glob(pattern))):
        refusing.refuses_untouched(code, words)


def test_a_channel_that_the_repository_lacks_is_named(refusing: Bench) -> None:
    right = refusing.machine.config
    refusing.machine.write_config(right.replace('"stable"', '"nightly"'))
    refusing.refuses_untouched("unknown-channel", "channel nightly: is not in the repository", "updatectl channel NAME")
    refusing.machine.write_config(right)


def test_once_all_is_whole_the_update_goes_on(refusing: Bench) -> None:
    refusing.updates()


@pytest.mark.parametrize("part", ["index", "blob"])
def test_an_image_that_the_server_lacks_is_named(node: Bench, part: str) -> None:
    with without(node, [node.blob(part)]):
        node.refuses("not-found", *NOT_THERE)
    node.updates()


@pytest.mark.parametrize("part", ["index", "blob"])
def test_an_image_with_one_other_byte_is_never_booted(node: Bench, part: str) -> None:
    with flipped([node.blob(part)]):
        node.refuses("wrong-digest", "the publisher must mend it")
    assert node.active().boots_next == "rootfs-a"
    node.updates()


# -------------------------------------------------------------------------------------- what is old, or not for us


def test_expired_metadata_is_refused_until_the_publisher_signs_again(node: Bench) -> None:
    keys = KeyFolder(str(node.publisher.keys))
    refresh(Repository(str(node.repository)), keys, now=time.time() - 30 * DAY)
    node.refuses_untouched("metadata-expired", "the metadata of the role 'timestamp'", "by the system clock")
    node.publisher.refresh()
    node.updates()


def test_a_repository_that_is_rolled_back_is_refused(node: Bench, tmp_path: Path) -> None:
    copied(node.repository, tmp_path / "older")
    node.ship("1.2.0")
    node.updates("1.2.0")
    copied(node.repository, tmp_path / "newer")
    copied(tmp_path / "older", node.repository)
    node.refuses_untouched("metadata-rolled-back", "metadata/timestamp.json", "compare it with the publisher's")
    copied(tmp_path / "newer", node.repository)
    node.updates("1.2.0")


def test_a_repository_that_is_rolled_back_is_refused_even_when_the_cache_of_metadata_is_lost(
    node: Bench, tmp_path: Path
) -> None:
    copied(node.repository, tmp_path / "older")
    node.ship("1.2.0")
    node.updates("1.2.0")
    copied(tmp_path / "older", node.repository)
    for path in (node.machine.state / "fetch/store").glob("*.json"):
        path.unlink()
    node.tells(node.once(FAILED), "metadata-rolled-back", "was trusted")


def test_an_image_larger_than_its_slot_is_refused_before_anything_is_written(node: Bench) -> None:
    node.ship("1.2.0", size=1_500_000)
    node.refuses_untouched("image-too-large", "component rootfs of release 1.2.0", "its slot holds 1048576")
    node.ship("1.3.0")
    node.updates("1.3.0")


def test_a_release_for_other_machines_is_refused(node: Bench) -> None:
    node.ship("1.2.0", compatible="toaster")
    node.refuses_untouched("incompatible", "release 1.2.0", "is made for 'toaster', and this machine is 'test-machine'")
    node.ship("1.3.0")
    node.updates("1.3.0")


# -------------------------------------------------------------------------------------------- who is interrupted


@contextmanager
def held_back(folder: Path) -> Iterator[tuple[Bench, threading.Event, threading.Event]]:
    """A node whose downloads wait: that one does is the first event, and with the second they end without an answer."""
    arrived, leave = threading.Event(), threading.Event()

    def hold_back(handler: Handler) -> None:
        arrived.set()
        leave.wait(30)
        handler.hang_up()

    with spoiled(folder, BLOB, lambda data: hold_back) as node:
        try:
            yield node, arrived, leave
        finally:
            leave.set()


def test_a_killed_downloader_is_told_and_the_next_cycle_goes_on(tmp_path: Path) -> None:
    with held_back(tmp_path) as (node, arrived, leave):

        def killed_on_the_way(expected: int) -> str:
            cycle = start_once(node.machine)
            assert arrived.wait(30)
            (child,) = Path(f"/proc/{cycle.pid}/task/{cycle.pid}/children").read_text().split()
            assert b"fetch\0install" in Path(f"/proc/{child}/cmdline").read_bytes()
            os.kill(int(child), signal.SIGKILL)
            out, err = cycle.communicate(timeout=30)
            return node.judged(subprocess.CompletedProcess([], cycle.returncode, out, err), expected)

        node.refuses(
            "child-failed", "the process 'updated fetch'", "was ended by SIGKILL, without a result",
            run=killed_on_the_way,
        )  # fmt: skip
        leave.set()
        use_a_mirror(node)
        node.updates()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cycle_that_is_interrupted_says_so_and_the_next_one_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    with held_back(tmp_path) as (node, arrived, leave):
        cycle = start_once(node.machine)
        assert arrived.wait(30)
        cycle.send_signal(number)
        _, error = cycle.communicate(timeout=30)
        leave.set()
        assert (cycle.returncode, "Traceback" in error) == (130, False), error
        assert "updated: interrupted; the next run goes on from there." in error
        use_a_mirror(node)
        node.updates()
