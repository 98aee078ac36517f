"""The timer that keeps a repository signed, judged by systemd's own tools, and its command, run as it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.shipped import REPOSITORY, UNITS, run, settings
from updated.publish.__main__ import main as releasectl

SERVICE = UNITS / "releasectl-refresh@.service"
TIMER = UNITS / "releasectl-refresh@.timer"
INSTANCE = "releasectl-refresh@srv-updates"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root with Debian's units, ours, and the program where the unit looks for it."""
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in Path("/lib/systemd/system").iterdir():
        if unit.suffix in {".target", ".slice"}:
            shutil.copy(unit, units / unit.name, follow_symlinks=True)
    for unit in (SERVICE, TIMER):
        shutil.copy(unit, units)
    program = tmp_path / settings(SERVICE, "ExecStart")[0].split()[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def test_systemd_finds_no_fault_in_them(machine: Path) -> None:
    judged = run(
        "systemd-analyze", "verify", "--man=no", f"--root={machine}", f"{INSTANCE}.service", f"{INSTANCE}.timer"
    )
    assert (judged.returncode, judged.stderr) == (0, "")


def test_a_fault_would_be_found(machine: Path) -> None:
    (machine / settings(SERVICE, "ExecStart")[0].split()[0].lstrip("/")).unlink()
    judged = run("systemd-analyze", "verify", "--man=no", f"--root={machine}", f"{INSTANCE}.service")
    assert "is not executable" in judged.stderr


def test_the_timer_is_enabled_for_an_instance(machine: Path) -> None:
    enabled = run("systemctl", f"--root={machine}", "enable", f"{INSTANCE}.timer")
    assert enabled.returncode == 0, enabled.stderr
    assert (machine / f"etc/systemd/system/timers.target.wants/{INSTANCE}.timer").is_symlink()


def test_it_runs_about_hourly_and_makes_up_for_what_it_missed() -> None:
    (calendar,) = settings(TIMER, "OnCalendar")
    judged = run("systemd-analyze", "calendar", "--iterations=2", calendar)
    assert judged.returncode == 0, judged.stderr
    assert "00:00" in judged.stdout
    assert settings(TIMER, "Persistent") == ["yes"]
    for key, unit in (("RandomizedDelaySec", TIMER), ("TimeoutStartSec", SERVICE)):
        (value,) = settings(unit, key)
        assert run("systemd-analyze", "timespan", value).returncode == 0


def test_its_exposure_is_at_most_1_1() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--threshold=11", "--no-pager", str(SERVICE))
    assert judged.returncode == 0, judged.stdout[-300:]


def test_it_writes_the_repository_alone() -> None:
    assert settings(SERVICE, "ProtectSystem") == ["strict"]
    assert settings(SERVICE, "ReadWritePaths") == ["%f"]


def credentials(folder: Path, keys: Path, *names: str) -> None:
    """What systemd makes of LoadCredential= and SetCredential=: the file if it is there, else the default."""
    loaded = dict(value.split(":", 1) for value in settings(SERVICE, "LoadCredential"))
    defaults = dict(value.split(":", 1) for value in settings(SERVICE, "SetCredential"))
    assert set(loaded) == {*names}
    folder.mkdir()
    for name in names:
        source = keys / name
        (folder / name).write_bytes(source.read_bytes() if source.exists() else defaults[name].encode())
        (folder / name).chmod(0o400)


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_its_command_signs_with_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None
) -> None:
    monkeypatch.delenv("RELEASECTL_PASSPHRASE", raising=False)
    repository, keys = tmp_path / "repository", tmp_path / "keys"
    keys.mkdir()
    options = []
    if passphrase is not None:
        (keys / "passphrase").write_text(f"{passphrase}\n")
        options = ["--passphrase-file", str(keys / "passphrase")]
    assert releasectl(["init", str(repository), "--keys", str(keys), *options]) == 0
    files = [f"{role}.{kind}" for role in ("snapshot", "timestamp") for kind in ("json", "pem")]
    credentials(tmp_path / "credentials", keys, *files, "passphrase")
    (command,) = settings(SERVICE, "ExecStart")
    arguments = [
        word.replace("%f", str(repository)).replace("${CREDENTIALS_DIRECTORY}", str(tmp_path / "credentials"))
        for word in command.split()[1:]
    ]
    done = subprocess.run(
        [sys.executable, "-m", "updated.publish", *arguments], capture_output=True, text=True, check=False, timeout=60,
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "Signed anew: snapshot, timestamp.\n"), done.stderr
