"""Releases without a network: handed over as a bundle or a directory, or found at a path; trusted like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.machine import Machine
from tests.node.world import Publisher, make_machine, program_for_everybody

NO_URL = ('url = "http://127.0.0.1:9/"\n', "")


@pytest.fixture
def node(tmp_path: Path, publisher: Publisher, bus: str) -> Iterator[Machine]:
    """A machine that runs 1.0.0, whose configuration names no repository. Its daemon does not run yet."""
    with make_machine(tmp_path / "machine", publisher, "http://127.0.0.1:9/") as made:
        made.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        made.write_config(made.config.replace(*NO_URL))
        yield made


def status(node: Machine) -> dict[str, object]:
    document: dict[str, object] = json.loads(node.updatectl("status", "--json").stdout)
    return document


def reasons(node: Machine) -> list[str]:
    path = node.root / "run/updated/status.json"
    return [each["code"] for each in json.loads(path.read_text())["reasons"]] if path.exists() else []


def started(node: Machine) -> Machine:
    node.start_daemon()
    node.wait_until(lambda: reasons(node) == ["no-repository"])
    return node


def manual(node: Machine) -> None:
    node.write_config(node.config.replace("[updates]\n", '[updates]\nreboot = "sentinel"\n'))


def brought(node: Machine, publisher: Publisher, kind: str) -> Path:
    """What is carried to the machine: a copy of the repository as it is now."""
    place = node.folder / f"stick-{time.monotonic_ns()}"
    if kind == "directory":
        shutil.copytree(publisher.repository, place)
        return place
    publisher.call("bundle", str(publisher.repository), str(place), "--channel", "stable")
    return place


def kept_open(node: Machine, place: Path) -> bool:
    """Whether the daemon has it open."""
    assert node.daemon is not None
    links = [Path(f"/proc/{node.daemon.pid}/fd/{name}") for name in os.listdir(f"/proc/{node.daemon.pid}/fd")]
    return any(os.readlink(link) == str(place) for link in links if link.is_symlink())


def history(node: Machine) -> list[tuple[str, str]]:
    entries = json.loads(node.updatectl("history", "--json").stdout)
    return [(entry["kind"], entry["version"]) for entry in entries]


# --------------------------------------------------------------------------------------------------- over the bus


@pytest.mark.parametrize("kind", ["bundle", "directory"])
def test_what_is_handed_over_is_installed_and_booted(node: Machine, publisher: Publisher, kind: str) -> None:
    publisher.release("1.1.0")
    place = brought(node, publisher, kind)
    started(node)
    node.updatectl("hold")  # a person who imports goes before it, as with install
    node.updatectl("import", str(place))
    node.wait_until(node.reboot_asked.exists)
    assert not kept_open(node, place)
    assert history(node)[1:] == [("import", "1.0.0"), ("install", "1.1.0"), ("staged", "1.1.0"), ("reboot", "1.1.0")]
    assert node.power_on() == "b"
    started(node)
    assert status(node)["running"] == {"slot": "b", "version": "1.1.0", "confirmed": True}


def test_a_node_without_a_repository_says_so_and_asks_nobody(node: Machine) -> None:
    started(node)
    shown = status(node)
    assert (shown["phase"], shown["error"], shown["last_check"], shown["next_check"]) == ("idle", None, None, None)
    assert "neither [repository] url nor path is set" in str(shown["summary"])
    for verb in ("check", "install"):
        refused = node.updatectl(verb, check=False)
        assert refused.returncode == 5
        assert "neither [repository] url nor path is set" in refused.stderr
    assert "Checked: never\n" in node.updatectl("status").stdout
    assert "error" not in node.tail().lower()


def test_a_repository_that_is_named_later_is_asked_at_once(node: Machine, publisher: Publisher) -> None:
    started(node)
    node.write_config(node.config.replace("[repository]\n", f'[repository]\nurl = "{publisher.repository.as_uri()}"\n'))
    # Of this machine, not of the node's tree.
    (node.root / str(publisher.repository).lstrip("/")).parent.mkdir(parents=True)
    (node.root / str(publisher.repository).lstrip("/")).symlink_to(publisher.repository)
    assert node.daemon is not None
    node.daemon.send_signal(1)
    node.wait_until(lambda: reasons(node) == ["up-to-date"])


def test_a_bundle_without_news_changes_nothing_and_says_why(node: Machine, publisher: Publisher) -> None:
    place = brought(node, publisher, "bundle")
    started(node)
    before = node.disk.read_bytes()
    text = node.updatectl("import", str(place)).stdout
    assert "1.0.0 is the newest release of channel stable" in text
    assert node.disk.read_bytes() == before
    assert not kept_open(node, place)
    node.wait_until(lambda: reasons(node) == ["up-to-date", "no-repository"], 40)


def test_metadata_older_than_what_is_trusted_is_refused_as_rolled_back(node: Machine, publisher: Publisher) -> None:
    manual(node)
    publisher.release("1.1.0")
    old = brought(node, publisher, "bundle")
    publisher.release("1.2.0")
    new = brought(node, publisher, "bundle")
    started(node)
    node.updatectl("import", str(new))
    refused = node.updatectl("import", str(old), check=False)
    assert refused.returncode == 1
    error = status(node)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "metadata-rolled-back"
    assert error["mend"].endswith("Then import it again: what was handed over is not kept.")
    assert status(node)["target"] == {"version": "1.2.0", "slot": "b", "armed": True}, "what is staged stays"


def test_a_damaged_bundle_is_told_and_let_go(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    place = brought(node, publisher, "bundle")
    os.truncate(place, place.stat().st_size // 2)
    started(node)
    refused = node.updatectl("import", str(place), check=False)
    assert refused.returncode == 1
    assert "Copy the bundle again, from where it was made. Then import it again" in refused.stderr
    assert not kept_open(node, place)
    assert node.updatectl("import", str(brought(node, publisher, "bundle"))).returncode == 0


def test_an_import_that_a_restart_ended_is_told(node: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    place = brought(node, publisher, "directory")
    blob = max((place / "blobs").iterdir(), key=lambda each: each.stat().st_size)
    started(node)
    node.updatectl("import", "--no-wait", str(place))
    node.wait_until(lambda: str(status(node)["phase"]) in ("checking", "fetching"))
    assert blob.exists()
    node.power_cut()
    node.power_on()
    node.start_daemon()
    node.wait_until(lambda: reasons(node) == ["no-repository"])
    assert "the import: was ended by a restart of the daemon" in node.updatectl("status").stdout
    assert history(node)[-1][0] == "failed"


@pytest.mark.parametrize("place", ["/nowhere/bundle", "/dev/null"])
def test_what_can_not_be_handed_over_is_told_by_updatectl(node: Machine, place: str) -> None:
    started(node)
    refused = node.updatectl("import", place, check=False)
    assert refused.returncode == 1
    assert place in refused.stderr
    assert ("import", "1.0.0") not in history(node)


# --------------------------------------------------------------------------------------------- descriptors and rights

CALLS = """
import asyncio, os, sys
from dbus_next import BusType, Message
from dbus_next.aio import MessageBus
import pwd
user, count, signature = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
files = [os.open(sys.argv[4], os.O_RDONLY) for _ in range(3)]
if user != os.getuid():
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    for member in ("Import", "Check", "Nonsense"):
        for interface in ("org.updated.Updated1", "org.freedesktop.DBus.Peer"):
            replies = await asyncio.gather(*(bus.call(Message(
                destination="org.updated.Updated1", path="/org/updated/Updated1", interface=interface,
                member=member, signature=signature, body=[7] if signature == "h" else [], unix_fds=files,
            )) for _ in range(count)))
            print(*{f"{reply.error_name} {reply.body}" for reply in replies}, sep="\\n")

asyncio.run(main())
"""


@pytest.mark.parametrize("signature", ["h", ""])
@pytest.mark.parametrize("user", ["nobody", "root"])
def test_no_call_leaves_an_open_file_behind(node: Machine, user: str, signature: str, bus: str) -> None:
    if os.geteuid() != 0 and user == "nobody":
        pytest.skip("only root can call as another user")
    started(node)
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(65534 if user == "nobody" else os.getuid()), "20", signature, __file__],
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}, capture_output=True, text=True, timeout=60, check=True,
    )
    assert "org.updated.Updated1.Error." in done.stdout
    assert "Traceback" not in done.stdout
    assert "ImportRequested" not in node.tail()
    node.wait_until(lambda: not kept_open(node, Path(__file__)), 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")
def test_a_caller_whom_polkit_does_not_allow_imports_nothing(
    node: Machine, publisher: Publisher, bus: str, tmp_path: Path
) -> None:
    place = brought(node, publisher, "bundle")
    started(node)
    script = CALLS.replace("body=[7]", "body=[0]")
    done = subprocess.run(
        [sys.executable, "-c", script, "65534", "1", "h", str(place)],
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}, capture_output=True, text=True, timeout=60, check=True,
    )
    assert "NotAuthorized" in done.stdout
    assert "org.updated.Updated1.import: polkit" in done.stdout
    assert status(node)["last_check"] is None
    assert not kept_open(node, place)


# ---------------------------------------------------------------------------------------------------- without a bus


def once(node: Machine, *more: str) -> subprocess.CompletedProcess[str]:
    return node.run("updated", "--root", str(node.root), "--once", *more, check=False)


@pytest.mark.parametrize("kind", ["bundle", "directory"])
def test_one_cycle_imports_without_a_daemon(node: Machine, publisher: Publisher, kind: str) -> None:
    publisher.release("1.1.0")
    done = once(node, "--import", str(brought(node, publisher, kind)))
    assert done.returncode == 0, done.stderr
    assert "1.1.0 is staged and boots next" in done.stdout
    assert node.power_on() == "b"


def test_one_cycle_that_may_not_take_what_is_imported_says_so_in_its_status_and_why(
    node: Machine, publisher: Publisher
) -> None:
    node.write_config(node.config.replace("[updates]\n", '[updates]\npin = "1.0.0"\n'))
    publisher.release("1.1.0")
    done = once(node, "--import", str(brought(node, publisher, "bundle")))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "  pinned: 1.1.0 is not taken: [updates] pin admits 1.0.0 alone" in done.stdout


def test_one_cycle_without_any_repository_says_what_is_missing(node: Machine) -> None:
    done = once(node)
    assert done.returncode == 1
    assert "neither [repository] url nor path is set" in done.stderr


def test_import_is_for_one_cycle(node: Machine) -> None:
    done = node.run("updated", "--root", str(node.root), "--import", "/x", check=False)
    assert (done.returncode, "--import needs --once" in done.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["bundle", "directory"])
def test_a_path_is_polled_like_a_repository(node: Machine, publisher: Publisher, kind: str) -> None:
    node.write_config(node.config.replace("[repository]\n", '[repository]\npath = "/media/updates"\n'))
    missing = once(node)
    assert missing.returncode == 1
    assert "/media/updates: is not there. Mount the medium" in missing.stderr
    publisher.release("1.1.0")
    (node.root / "media").mkdir()
    brought(node, publisher, kind).rename(node.root / "media/updates")
    done = once(node)
    assert done.returncode == 0, done.stderr
    assert "1.1.0 is staged and boots next" in done.stdout
    assert node.power_on() == "b"


# ------------------------------------------------------------------------------------------- who reads what is brought


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a downloader another user")
def test_the_downloader_reads_a_bundle_by_its_descriptor_and_a_directory_by_its_own_rights(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.release("1.1.0")
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        make_machine(Path(name) / "machine", publisher, "http://127.0.0.1:9/") as node,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        program = program_for_everybody(folder)
        node.write_config(node.config.replace(*NO_URL).replace('user = ""', 'user = "games"'))

        def imported(place: Path) -> str:
            command = ["/usr/bin/python3", "-m", "updated", "--root", str(node.root), "--once", "--import", str(place)]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(program)}, capture_output=True, text=True, timeout=120,
                check=False,
            )
            return done.stdout + done.stderr

        directory = brought(node, publisher, "directory")
        (directory / "metadata").chmod(0o700)
        refused = imported(directory)
        assert "may not be read by the user that looks into it. Let all users read it (chmod -R a+rX" in refused
        (directory / "metadata").chmod(0o755)
        assert "1.1.0 is staged and boots next" in imported(directory)

        publisher.release("1.2.0")
        bundle = brought(node, publisher, "bundle")
        bundle.chmod(0o600)
        assert "1.2.0 is staged and boots next" in imported(bundle)
