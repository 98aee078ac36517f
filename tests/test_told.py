"""What is told of a node where something is amiss, on a disk that was laid out: nothing that is known gets lost."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootctl import model
from bootctl.backend import open_backend
from bootctl.model import BootView
from bootctl.settings import boot_settings, load
from updated import daemon, record
from updated.cli import exits
from updated.cli.__main__ import main
from updated.cli.findings import Node
from updated.cli.findings import daemon as daemon_findings
from updated.config import read_settings
from updated.core import events
from updated.core.installed import COSTS, LastInstall
from updated.core.machine import first_state
from updated.core.saved import format_state
from updated.core.state import BootFacts, Denial, Phase, Target
from updated.engine import Engine

CONFIG = """\
[repository]
url = "http://127.0.0.1:9"
channel = "beta"
[identity]
compatible = "box"
[updates]
reboot = "none"
[disk]
image = "/disk.img"
"""
KNOWN = ("running", "slots", "target", "denied", "last_install")
UNKNOWN_KEY, DAMAGED = CONFIG.replace("[updates]\n", "[updates]\nintervall = 1\n"), "[updates"
FIGURES = LastInstall("1.1.0", 2.5, 7, {"rootfs": {"plan": "full", **dict.fromkeys(COSTS, 9)}}, 8)


@pytest.fixture(autouse=True)
def log() -> Iterator[logging.Logger]:
    """The daemon's logger, which is as it was after each test."""
    logger = logging.getLogger("updated")
    before = [*logger.handlers], logger.level, logger.propagate
    yield logger
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node that runs 1.0.0 in slot a; 1.1.0 is staged in slot b and boots next. Its daemon ran, and ended."""
    words = ["provision", str(tmp_path / "disk.img"), "--slot-size", "4M", "--state-size", "4M", "--json"]
    assert main(words) == exits.DONE
    for folder in ("proc/sys/kernel/random", "etc/updated", "var/lib/updated/health"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text("ro updated.slot=a\n")
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("this-boot\n")
    (tmp_path / "etc/os-release").write_text("IMAGE_VERSION=1.0.0\n")
    config(tmp_path, CONFIG)
    backend = open_backend(boot_settings(load(str(tmp_path)), str(tmp_path)))
    backend.commit(model.confirm(backend.read(), "a", counted=0))
    backend.commit(model.arm_trial(backend.read(), "b", active="a", tries=3))
    state = first_state(BootFacts("a", "1.0.0", "this-boot", boots(tmp_path)), 0.5).with_changes(
        phase=Phase.STAGED, target=Target("1.1.0", "m11", "b", tries=3), versions={"a": "1.0.0", "b": "1.1.0"},
        denied=(Denial("0.9.0", "m09", "web failed", 1),), last_install=FIGURES,
    )
    record.write(str(tmp_path / "var/lib/updated/state"), format_state(state))
    engine(tmp_path).start()
    assert status(tmp_path)["phase"] == "staged"
    return tmp_path


def config(root: Path, text: str) -> None:
    (root / "etc/updated/updated.toml").write_text(text)


def boots(root: Path) -> BootView:
    return open_backend(boot_settings(load(str(root)), str(root))).read()


def engine(root: Path) -> Engine:
    return Engine(read_settings(str(root)))


def status(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / "run/updated/status.json").read_text())
    return document


def known(root: Path) -> dict[str, Any]:
    return {key: status(root)[key] for key in KNOWN}


def test_what_the_last_installation_cost_outlives_a_restart(root: Path) -> None:
    (root / "run/updated/status.json").unlink()
    engine(root).start()
    assert status(root)["last_install"] == FIGURES.to_json()


def test_an_import_of_what_is_not_there_leaves_all_that_is_known_and_adds_its_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = known(root)
    assert daemon.main(str(root), once=True, bundle="/nowhere/at/all") == daemon.FAILED
    assert "updated: /nowhere/at/all: is not there. " in capsys.readouterr().err
    document = status(root)
    assert known(root) == before
    assert (document["phase"], document["error"]["code"], document["pid"]) == ("staged", "not-found", 0)
    assert document["channel"] == "beta"
    assert document["summary"].startswith("could not import; /nowhere/at/all: is not there.")
    engine(root).start()
    assert status(root)["error"] is None, "it is no error of the node"


@pytest.mark.parametrize("wrong", [UNKNOWN_KEY, DAMAGED], ids=["unknown key", "damaged"])
@pytest.mark.parametrize("left", ["status", "state"])
def test_a_configuration_that_can_not_be_used_hides_nothing(root: Path, wrong: str, left: str) -> None:
    before = known(root)
    if left == "state":
        (root / "run/updated/status.json").unlink()
    config(root, wrong)
    for _ in range(2):  # a service manager starts it again
        assert daemon.main(str(root), once=False) == daemon.USAGE
        document = status(root)
        assert known(root) == before
        assert (document["phase"], document["error"]["code"], document["pid"]) == ("staged", "bad-config", 0)
        assert document["channel"] == ("beta" if left == "status" else ""), "the state alone does not know it"
        assert document["summary"].startswith("could not start; ")
        assert (root / "run/updated/status.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("state", [None, b"garbage"], ids=["gone", "damaged"])
def test_without_a_state_what_was_told_stays_and_where_nothing_was_the_boot_reference_is_told(
    root: Path, state: bytes | None
) -> None:
    before = known(root)
    for name in ("state", "state.previous"):
        (root / "var/lib/updated" / name).unlink(missing_ok=True)
        if state is not None:
            (root / "var/lib/updated" / name).write_bytes(state)
    config(root, UNKNOWN_KEY)
    assert daemon.main(str(root), once=False) == daemon.USAGE
    assert known(root) == before
    (root / "run/updated/status.json").unlink()
    assert daemon.main(str(root), once=False) == daemon.USAGE
    assert status(root)["running"] == {"slot": "a", "version": "1.0.0", "confirmed": True}
    assert [each["slot"] for each in status(root)["slots"] if each["next"]] == ["b"]


def reboot(root: Path) -> None:
    """Into what is staged."""
    (root / "proc/sys/kernel/random/boot_id").write_text("another-boot\n")
    (root / "proc/cmdline").write_text("ro updated.slot=b\n")
    (root / "etc/os-release").write_text("IMAGE_VERSION=1.1.0\n")
    (root / "run/updated/status.json").unlink()


def test_after_another_boot_the_boot_reference_is_told_and_not_what_was_true_before(root: Path) -> None:
    reboot(root)
    config(root, UNKNOWN_KEY)
    assert daemon.main(str(root), once=False) == daemon.USAGE
    document = status(root)
    assert document["running"] == {"slot": "b", "version": "1.1.0", "confirmed": False}
    assert document["phase"] == "trial"
    (root / "run/updated/status.json").unlink()
    config(root, DAMAGED)
    assert daemon.main(str(root), once=False) == daemon.USAGE
    document = status(root)
    assert (document["slots"], document["running"], document["phase"]) == ([], None, "failed")
    assert [each["version"] for each in document["denied"]] == ["0.9.0"], "that is true in any boot"


@pytest.mark.parametrize("garbage", ["{", "[]", "", '{"schema": 2, "channel": "gamma"}'])
def test_what_stands_there_and_is_no_status_is_replaced(root: Path, garbage: str) -> None:
    (root / "var/lib/updated/state").unlink()
    (root / "run/updated/status.json").write_text(garbage)
    config(root, DAMAGED)
    assert daemon.main(str(root), once=False) == daemon.USAGE
    assert (status(root)["error"]["code"], status(root)["channel"]) == ("bad-config", "")


def test_a_line_about_no_release_has_no_gap_for_one(
    root: Path, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    log.setLevel("INFO")

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    async def hold() -> None:
        node = engine(root)
        work = asyncio.create_task(node.run())
        node.start()
        node.request(events.HoldRequested, by="root", until=None)
        await node.rest()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    log.addHandler(Listener())
    asyncio.run(hold())
    assert "hold: by root, until somebody lifts it" in said
    capsys.readouterr()
    assert main(["--root", str(root), "history"]) == exits.DONE
    assert capsys.readouterr().out.splitlines()[0].endswith("  hold  by root, until somebody lifts it")


VERDICT: dict[str, Any] = {
    "slot": "b", "version": "1.1.0", "verdict": "confirmed", "reason": None, "finished": "2026-01-31T00:00:00Z",
    "boot_id": "another-boot", "checks": [],
}  # fmt: skip
ENDLESS = {"name": "web", "kind": "required", "result": "pass", "output": "", "duration_seconds": 10**400}


def test_the_verdict_that_is_told_is_the_last_one_also_when_a_start_failed_before_it(root: Path) -> None:
    reboot(root)
    config(root, UNKNOWN_KEY)
    assert daemon.main(str(root), once=False) == daemon.USAGE
    assert status(root)["health"] is None
    (root / "var/lib/updated/health/verdict.json").write_text(json.dumps(VERDICT))
    for wrong in (UNKNOWN_KEY, DAMAGED):
        config(root, wrong)
        assert daemon.main(str(root), once=False) == daemon.USAGE
        assert (status(root)["health"]["verdict"], status(root)["health"]["this_boot"]) == ("confirmed", True)


def test_a_defect_that_ended_the_start_is_told_although_it_meets_the_last_word_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*anything: object) -> BootFacts:
        raise ZeroDivisionError

    before = known(root)
    for module in ("engine", "last_word"):
        monkeypatch.setattr(f"updated.{module}.read_facts", defect)
    assert daemon.main(str(root), once=True) == daemon.FAILED
    assert (status(root)["phase"], status(root)["error"]["code"]) == ("staged", "internal")
    assert known(root) == before


@pytest.mark.parametrize(
    "garbage",
    ["{", "[1]", '{"slot": "a", "verdict": "confirmed"}', json.dumps({**VERDICT, "checks": [ENDLESS]})],
    ids=["cut", "list", "keys", "number"],
)
def test_a_damaged_verdict_is_told_with_its_mend_and_decides_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], garbage: str
) -> None:
    reboot(root)
    view = boots(root)
    path = root / "var/lib/updated/health/verdict.json"
    path.write_text(garbage)
    node = engine(root)
    node.start()
    node.tick()
    (note,) = status(root)["notes"]
    assert note.startswith(f"the verdict {path}: is damaged; ")
    assert "'systemctl restart updated-health'" in note
    assert boots(root) == view
    assert (status(root)["phase"], status(root)["running"]["confirmed"]) == ("trial", False)
    assert [each["version"] for each in status(root)["denied"]] == ["0.9.0"]
    assert note in [each.text for each in daemon_findings(Node(str(root)))]
    capsys.readouterr()
    assert main(["--root", str(root), "health"]) == exits.FAILED
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"updatectl: {note}\n")
    assert main(["--root", str(root), "health", "--json"]) == exits.FAILED
    told = capsys.readouterr()
    assert (json.loads(told.out)["verdict"], told.err) == (None, f"updatectl: {note}\n")
