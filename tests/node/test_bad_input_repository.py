"""A bad repository or server: nothing of it reaches the running slot, and the next cycle mends what it left."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.http.server import Answer, Handler, ScriptedServer, ranged, status, truncated
from tests.node.bench import FAILED, Active, Bench, bench, copied, files_except, flip, start_once
from updated.publish.keys import KeyFolder
from updated.publish.publisher import refresh
from updated.publish.repository import Repository

DAY = 86400


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        made.ship()
        yield made


# ------------------------------------------------------------------------------- what the node tries several times


@contextmanager
def spoiled(folder: Path, pattern: str, fault: Answer) -> Iterator[Bench]:
    """A bench whose server answers with `fault` for the paths that match."""
    made: list[Bench] = []

    def faults(path: str) -> Answer | None:
        return fault if re.search(pattern, path) else None

    server = ScriptedServer(files_except(lambda: made[0].repository, faults))
    with server, bench(folder, server.url) as node:
        made.append(node)
        node.ship()
        yield node


@contextmanager
def unreachable(folder: Path) -> Iterator[Bench]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with bench(folder, f"http://127.0.0.1:{taken.getsockname()[1]}/") as node:
            node.ship()
            yield node


def cut_in_the_middle(handler: Handler) -> None:
    """Sends the first half of what is asked, each time."""
    first, last = map(int, re.findall(r"\d+", handler.headers["Range"]))
    ranged(bytes(last + 1), stop_after=(last + 1 - first) // 2)(handler)


OUTAGES = {
    "unreachable": ("unreachable", ["127.0.0.1", "refused", "Check the network"]),
    "status 503": ("http-status", ["timestamp.json", "HTTP status 503", "Look at the log of the web server"]),
    "truncated metadata": ("truncated", ["timestamp.json", "did not come whole"]),
    "truncated index": ("truncated", ["/blobs/", "did not come whole"]),
    "blob cut in the middle": ("wrong-digest", ["the blob at byte", "It is not written"]),
    "blob that never begins": ("truncated", ["/blobs/", "it ended after 0 of"]),
}


@dataclass
class Outage:
    node: Bench
    before: Active
    text: str


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outage]]:
    """The node waits between its tries, so all of these happen at once."""
    with ExitStack() as stack:
        nodes = {
            name: stack.enter_context(context) for name, context in {
                "unreachable": unreachable(tmp_path_factory.mktemp("a")),
                "status 503": spoiled(tmp_path_factory.mktemp("b"), "timestamp", status(503)),
                "truncated metadata": spoiled(tmp_path_factory.mktemp("c"), "timestamp", truncated(b"{", 900)),
                "truncated index": spoiled(tmp_path_factory.mktemp("d"), "blobs/", truncated(b"UPDIDX", 900)),
                "blob cut in the middle": stack_blob(tmp_path_factory.mktemp("e"), cut_in_the_middle),
                "blob that never begins": stack_blob(tmp_path_factory.mktemp("f"), truncated(b"", 900)),
            }.items()
        }
        before = {name: node.active() for name, node in nodes.items()}
        with ThreadPoolExecutor(len(nodes)) as pool:
            texts = dict(zip(nodes, pool.map(lambda node: node.once(FAILED), nodes.values()), strict=True))
        yield {name: Outage(node, before[name], texts[name]) for name, node in nodes.items()}


@contextmanager
def stack_blob(folder: Path, fault: Answer) -> Iterator[Bench]:
    """A bench whose server spoils the blob of the new release, which alone is asked for in ranges."""

    def only_ranges(handler: Handler) -> None:
        if "Range" in handler.headers:
            fault(handler)
        else:
            files_except(lambda: folder / "publisher/repository", lambda path: None)(handler)

    with spoiled(folder, "blobs/", only_ranges) as node:
        yield node


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_told_and_the_running_slot_stays(outages: dict[str, Outage], name: str) -> None:
    outage, (code, words) = outages[name], OUTAGES[name]
    outage.node.tells(outage.text, code, *words)
    assert outage.node.active() == outage.before


@pytest.mark.parametrize("name", OUTAGES)
def test_when_the_outage_is_over_the_update_goes_on(outages: dict[str, Outage], name: str) -> None:
    node = outages[name].node
    node.machine.write_config(re.sub(r'url = ".*"', f'url = "file:///{name}"', node.machine.config))
    copied(node.repository, node.root / name)
    node.updates()


# ---------------------------------------------------------------------------------------------- what is missing


MISSING = {
    "the timestamp": ("metadata/timestamp.json", True),
    "the snapshot": ("metadata/*.snapshot.json", True),
    "the channel's metadata": ("metadata/*.stable.json", True),
    "the channel manifest": ("targets/channels/*.stable.json", True),
    "the release manifest": ("targets/releases/*.1.1.0.json", True),
    "the index": ("index", False),
    "the blob": ("blob", False),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_file_that_the_server_lacks_is_named(node: Bench, tmp_path: Path, what: str) -> None:
    pattern, before_writing = MISSING[what]
    paths = [node.blob(pattern)] if pattern in ("index", "blob") else list(node.repository.glob(pattern))
    for path in paths:
        shutil.move(path, tmp_path / path.name)
    refuses = node.refuses_untouched if before_writing else node.refuses
    refuses("not-found", "http://127.0.0.1", "is not there (HTTP status 404)", "Check the address of the repository")
    for path in paths:
        shutil.move(tmp_path / path.name, path)
    node.updates()


def test_a_channel_that_the_repository_lacks_is_named(node: Bench) -> None:
    node.machine.write_config(node.machine.config.replace('"stable"', '"nightly"'))
    node.refuses_untouched("unknown-channel", "channel nightly: is not in the repository", "updatectl channel NAME")


# ---------------------------------------------------------------------------------------------- what is damaged


DAMAGED = {
    "the timestamp": ("metadata/timestamp.json", "metadata-invalid", "metadata/timestamp.json"),
    "the snapshot": ("metadata/*.snapshot.json", "metadata-invalid", "snapshot.json"),
    "the channel's metadata": ("metadata/*.stable.json", "metadata-invalid", "stable.json"),
    "the channel manifest": ("targets/channels/*.stable.json", "wrong-digest", "the target channels/stable.json"),
    "the release manifest": ("targets/releases/*.1.1.0.json", "wrong-digest", "the target releases/1.1.0.json"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_signed_file_with_one_other_byte_is_refused(node: Bench, what: str) -> None:
    pattern, code, words = DAMAGED[what]
    paths = list(node.repository.glob(pattern))
    for path in paths:
        flip(path)
    node.refuses_untouched(code, words)
    for path in paths:
        flip(path)
    node.updates()


@pytest.mark.parametrize("part", ["index", "blob"])
def test_an_image_with_one_other_byte_is_never_booted(node: Bench, part: str) -> None:
    flip(node.blob(part))
    node.refuses("wrong-digest", "the publisher must mend it")
    assert node.active().boots_next == "rootfs-a"
    flip(node.blob(part))
    node.updates()


def test_a_blob_that_is_cut_short_on_the_server_is_refused(node: Bench) -> None:
    whole = node.blob("blob").read_bytes()
    node.blob("blob").write_bytes(whole[: len(whole) // 2])
    # nginx answers what it has of the range, which is not what was asked for.
    node.refuses("http-status" if len(whole) < 2 else node.once(FAILED) and node.status()["error"]["code"])
    node.blob("blob").write_bytes(whole)
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
    node.refuses_untouched("metadata-rolled-back", "metadata/timestamp.json", "compare it with the publisher's own copy")
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


def test_a_killed_downloader_is_told_and_the_next_cycle_goes_on(tmp_path: Path) -> None:
    arrived, leave = threading.Event(), threading.Event()

    def hold_back(handler: Handler) -> None:
        arrived.set()
        leave.wait(30)
        handler.hang_up()

    with stack_blob(tmp_path, hold_back) as node:

        def killed_on_the_way(expected: int) -> str:
            cycle = start_once(node.machine)
            assert arrived.wait(30)
            (child,) = Path(f"/proc/{cycle.pid}/task/{cycle.pid}/children").read_text().split()
            assert b"fetch\0install" in Path(f"/proc/{child}/cmdline").read_bytes()
            subprocess.run(["kill", "-KILL", child], check=True)
            out, err = cycle.communicate(timeout=30)
            return node.judged(subprocess.CompletedProcess([], cycle.returncode, out, err), expected)

        try:
            node.refuses(
                "child-failed", "the process 'updated fetch'", "was ended by SIGKILL, without a result",
                run=killed_on_the_way,
            )
        finally:
            leave.set()
        node.machine.write_config(re.sub(r'url = ".*"', 'url = "file:///mirror"', node.machine.config))
        copied(node.repository, node.root / "mirror")
        node.updates()
