"""The units, judged by systemd's own tools, and the daemon's sandbox, tried with what it must still allow."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bootctl.health_settings import HealthSettings
from health.aftermath import MARK
from health.judging import MOST_SECONDS, VERDICT_SECONDS
from tests.packaging.shipped import PACKAGING, REPOSITORY, UNITS, as_root, open_folder, run, settings

DAEMON = UNITS / "updated.service"
HEALTH = UNITS / "updated-health.service"
PROBATION = UNITS / "updated-probation.service"
DEADLINE = UNITS / "updated-deadline.service"
KEXEC = UNITS / "updated-kexec.service"
TIMER = UNITS / "updated-deadline.timer"
OURS = sorted([*UNITS.glob("updated*.service"), *UNITS.glob("updated*.timer")])
ENABLED = [unit.name for unit in OURS if "[Install]" in unit.read_text()]
SYSTEM_UNITS = Path("/lib/systemd/system")
PROGRAMS = (
    "usr/lib/updated/bin/updated",
    "usr/lib/updated/libexec/updated-health-end",
    "usr/bin/python3",
    "usr/bin/wall",
    "bin/kill",
)
SYSTEM_PROGRAMS = ("lib/systemd/systemd-boot-check-no-failures", "lib/systemd/systemd-bless-boot")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root with Debian's units, ours enabled beside them, and programs where the units look for them."""
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in SYSTEM_UNITS.iterdir():
        if unit.suffix in {".target", ".slice"} or unit.name in {
            "dbus.service",
            "dbus.socket",
            "systemd-machine-id-commit.service",
            "systemd-boot-check-no-failures.service",
            "systemd-bless-boot.service",
        }:
            shutil.copy(unit, units / unit.name, follow_symlinks=True)
    for unit in OURS:
        shutil.copy(unit, units)
    for folder in UNITS.glob("*.service.d"):
        shutil.copytree(folder, units / folder.name)
    for program in (*PROGRAMS, "usr/bin/dbus-daemon", *SYSTEM_PROGRAMS):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    enabled = run("systemctl", f"--root={tmp_path}", "enable", *ENABLED)
    assert enabled.returncode == 0, enabled.stderr
    return tmp_path


def verify(machine: Path, *units: str) -> subprocess.CompletedProcess[str]:
    return run("systemd-analyze", "verify", "--man=no", f"--root={machine}", *units)


def test_systemctl_help_finds_what_a_unit_names() -> None:
    units = [each for each in UNITS.iterdir() if each.is_file()]
    named = {unit.name: " ".join(settings(unit, "Documentation")).split() for unit in units}
    assert {"man:updated(8)", "file:///usr/share/doc/updated/operating.md"} == set(named["updated.service"])
    assert "man:updated-health(8)" in named["updated-health.service"]
    for document in [each for documents in named.values() for each in documents]:
        if document.startswith("man:"):
            page = document.removeprefix("man:").replace("(", ".").removesuffix(")")
            assert (PACKAGING / f"man/{page}.scd").is_file(), document
        else:
            assert (PACKAGING / "doc" / document.removeprefix("file:///usr/share/doc/updated/")).is_file(), document


def test_systemd_finds_no_fault_in_the_units(machine: Path) -> None:
    judged = verify(machine, *(unit.name.replace("@.", "@pre-reboot.") for unit in OURS))
    assert (judged.returncode, judged.stderr) == (0, "")


def test_a_missing_program_would_be_found(machine: Path) -> None:
    (machine / PROGRAMS[0]).unlink()
    assert f"{PROGRAMS[0]} is not executable" in verify(machine, "updated.service").stderr


def test_the_enabled_units_close_no_cycle_with_the_whole_boot(machine: Path) -> None:
    assert "ordering cycle" not in verify(machine, "graphical.target").stderr.lower()


def test_not_even_with_a_check_that_waits_for_the_whole_boot(machine: Path) -> None:
    """As systemd-boot-check-no-failures.service does."""
    requires = machine / "etc/systemd/system/boot-complete.target.requires"
    (requires / "systemd-boot-check-no-failures.service").symlink_to(
        "/usr/lib/systemd/system/systemd-boot-check-no-failures.service"
    )
    assert "ordering cycle" not in verify(machine, "graphical.target").stderr.lower()


def test_a_cycle_would_be_found(machine: Path) -> None:
    drop_in = machine / "etc/systemd/system/updated-health.service.d/late.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Unit]\nAfter=updated.service\n")
    assert "ordering cycle" in verify(machine, "graphical.target").stderr.lower()


def test_enabling_puts_the_health_check_in_the_way_of_boot_complete_and_into_every_boot(
    machine: Path,
) -> None:
    enabled = {
        str(link.relative_to(machine / "etc/systemd/system"))
        for link in machine.glob("etc/systemd/system/*/*")
    }
    assert enabled == {
        "multi-user.target.wants/updated.service",
        "boot-complete.target.requires/updated-health.service",
        "basic.target.wants/updated-health.service",
        "sysinit.target.wants/updated-boot-count.service",
        "sysinit.target.wants/updated-deadline.timer",
    }


def test_the_exposure_of_the_daemon_is_at_most_3() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(DAEMON))
    assert judged.returncode == 0, judged.stdout[-300:]


def test_the_daemon_reaches_block_devices_but_no_other_and_writes_only_where_it_must() -> None:
    assert settings(DAEMON, "DevicePolicy") == ["closed"]
    assert settings(DAEMON, "DeviceAllow") == ["block-* rw"]
    assert settings(DAEMON, "ProtectSystem") == ["strict"]
    assert settings(DAEMON, "StateDirectory") == ["updated"]
    assert [path for value in settings(DAEMON, "ReadWritePaths") for path in value.split()] == [
        "/run",
        "-/boot/grub",
        "-/boot/firmware",
        "-/efi/loader",
        "-/efi/EFI/Linux",
        "-/boot/loader",
        "-/boot/EFI/Linux",
        "-/boot/efi/loader",
        "-/boot/efi/EFI/Linux",
        "-/sys/firmware/efi/efivars",
        "-/efi/EFI/updated",
        "-/boot/EFI/updated",
        "-/boot/efi/EFI/updated",
        "-/var/lib/node_exporter",
        "-/var/lib/prometheus/node-exporter",
    ]


def test_the_daemon_waits_for_the_verdict_and_runs_on_a_sick_boot_too() -> None:
    assert any("boot-complete.target" in value.split() for value in settings(DAEMON, "Wants"))
    assert not settings(DAEMON, "Requires")
    assert any("boot-complete.target" in value.split() for value in settings(DAEMON, "After"))


def test_every_time_span_is_one_that_systemd_reads() -> None:
    for unit in OURS:
        for key in ("WatchdogSec", "RestartSec", "TimeoutStopSec", "TimeoutStartSec", "OnBootSec", "AccuracySec"):
            for value in settings(unit, key):
                assert run("systemd-analyze", "timespan", value).returncode == 0, (unit.name, key, value)


@pytest.mark.parametrize("unit", sorted(UNITS.glob("updated*.service")), ids=lambda unit: unit.name)
def test_no_unit_can_start_for_ever(unit: Path) -> None:
    """A oneshot has no limit of its own; the daemon says that it is ready, and systemd's default is for that."""
    if unit != DAEMON:
        assert len(settings(unit, "TimeoutStartSec")) == 1


def test_checks_that_hang_are_judged_before_their_unit_is_ended() -> None:
    for unit, key in ((HEALTH, "TimeoutStartSec"), (PROBATION, "WatchdogSec")):
        (span,) = settings(unit, key)
        told = run("systemd-analyze", "timespan", span).stdout
        (microseconds,) = (line.split()[-1] for line in told.splitlines() if "μs:" in line)
        assert int(microseconds) / 1_000_000 >= MOST_SECONDS + VERDICT_SECONDS


def test_the_probation_waits_for_the_verdict_starts_on_no_other_boot_and_is_waited_for_by_nothing() -> None:
    assert settings(PROBATION, "After") == ["updated-health.service"]
    assert MARK in settings(PROBATION, "ConditionPathExists")
    assert settings(HEALTH, "Wants") == [PROBATION.name]
    assert not settings(PROBATION, "Before")
    assert PROBATION.name not in ENABLED


def test_the_deadline_also_comes_in_a_boot_that_gets_no_further() -> None:
    for unit in (TIMER, DEADLINE):
        assert settings(unit, "DefaultDependencies") == ["no"]
        assert not [value for key in ("After", "Requires", "Wants", "BindsTo") for value in settings(unit, key)]
    assert settings(TIMER, "WantedBy") == ["sysinit.target"]
    assert not settings(DEADLINE, "Conflicts"), "it outlives a shutdown that hangs"


def test_the_timer_comes_at_the_default_of_the_deadline() -> None:
    (span,) = settings(TIMER, "OnBootSec")
    told = run("systemd-analyze", "timespan", span).stdout
    assert f"{HealthSettings().deadline_seconds * 1_000_000}\n" in told


def test_each_unit_that_judges_ends_with_the_same_script_which_can_ask_python() -> None:
    for unit in (HEALTH, PROBATION, DEADLINE):
        (end,) = settings(unit, "ExecStopPost")
        words = end.split()
        assert words[:2] == ["/usr/lib/updated/libexec/updated-health-end", "/var/lib/updated/health"]
        assert words[3:] == ["/usr/bin/python3", "-BPSs", "-m", "health", "deadline", "--now"]
        (environment,) = settings(unit, "Environment")
        assert environment.split()[0] == "PYTHONPATH=/usr/lib/updated"


def test_systemd_does_not_confirm_a_slot_before_its_probation_is_over(machine: Path) -> None:
    drop_in = machine / "usr/lib/systemd/system/systemd-bless-boot.service.d/updated.conf"
    assert settings(drop_in, "ConditionPathExists") == ["/usr/.noupdate"]
    assert verify(machine, "systemd-bless-boot.service").stderr == ""
    drop_in.write_text(drop_in.read_text().replace("Condition", "Wrong"))
    assert "updated.conf" in verify(machine, "systemd-bless-boot.service").stderr, "systemd reads it"


def test_the_hardware_watchdog_is_set_by_names_and_spans_that_systemd_knows(machine: Path) -> None:
    drop_in = UNITS / "system.conf.d/updated.conf"
    known = (Path("/etc/systemd/system.conf")).read_text()
    assert drop_in.read_text().splitlines().count("[Manager]") == 1
    for key in ("RuntimeWatchdogSec", "RebootWatchdogSec", "KExecWatchdogSec"):
        (span,) = settings(drop_in, key)
        assert f"#{key}=" in known
        assert run("systemd-analyze", "timespan", span).returncode == 0


def test_the_capabilities_of_the_daemon_suffice_for_its_work(tmp_path: Path) -> None:
    """Drop to another user for the child, read what it wrote for itself alone, and end it."""
    kept = ",".join(
        f"+{name.removeprefix('CAP_').lower()}"
        for name in settings(DAEMON, "CapabilityBoundingSet")[0].split()
    )
    work = """
import os, signal, subprocess, sys
folder = sys.argv[1] + "/fetch"
child = subprocess.Popen(
    ["sh", "-c", f"umask 077; echo fetched >{folder}/file; echo ready; exec sleep 60"],
    user=1, group=1, extra_groups=[], stdout=subprocess.PIPE,
)
assert child.stdout.readline() == b"ready\\n"
assert open(folder + "/file").read() == "fetched\\n"
child.terminate()
assert child.wait(timeout=10) == -signal.SIGTERM
try:
    open(folder + "/forbidden", "w")
except PermissionError:
    print("done")
"""
    with open_folder() as folder:
        (folder / "fetch").mkdir()
        script = (
            'chown 1:1 "$0/fetch" && chmod 750 "$0/fetch" && '
            'setpriv --no-new-privs --bounding-set=-all,"$1" /usr/bin/python3 -c "$2" "$0"; status=$?; '
            'rm -rf "$0/fetch"; exit $status'
        )
        done = run(*as_root("sh", "-c", script, str(folder), kept, work))
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_the_health_check_needs_the_systems_python_and_nothing_else(tmp_path: Path) -> None:
    for package in ("health", "bootctl"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    python, flags, _, module = settings(HEALTH, "ExecStart")[0].split()
    assert settings(HEALTH, "Environment") == ["PYTHONPATH=/usr/lib/updated"]
    every_module = (
        "import importlib, pkgutil, sys, health, bootctl\n"
        "for package in (health, bootctl):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "files = [getattr(module, '__file__', None) or '' for module in sys.modules.values()]\n"
        "foreign = [file for file in files if 'packages' in file]\n"
        "sys.exit(str(foreign) if foreign else 0)\n"
    )
    done = run(python, flags, "-c", every_module, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert run(python, flags, "-m", module, "--help", PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_kernel_that_could_not_be_started_does_not_stay_loaded(tmp_path: Path) -> None:
    """The command of ExecStopPost=, with a kexec that keeps its words."""
    kexec, words = tmp_path / "kexec", tmp_path / "words"
    kexec.write_text(f'#!/bin/sh\necho "$@" >{words}\n')
    kexec.chmod(0o755)
    shell, option, script = shlex.split(settings(KEXEC, "ExecStopPost")[0].removeprefix("-").replace("$$", "$"))
    for result, unloads in (("success", False), ("exit-code", True), ("timeout", True)):
        run(shell, option, script, PATH=f"{tmp_path}:/usr/bin:/bin", SERVICE_RESULT=result)
        assert words.exists() == unloads
    assert words.read_text() == "--kexec-file-syscall --unload\n"


def test_the_shutdown_that_kexec_begins_does_not_cancel_it() -> None:
    assert settings(KEXEC, "DefaultDependencies") == ["no"]
    assert not settings(KEXEC, "Conflicts")
    (start,) = settings(KEXEC, "ExecStart")
    assert start.split()[-1] == "bootctl.kexec"


@pytest.mark.parametrize("unit", ["kexec.service", "kexec-load.service"])
def test_kexec_tools_do_not_make_reboots_their_own_where_updated_is_configured(machine: Path, unit: str) -> None:
    """Debian's package has them as init scripts, from which systemd makes units of these names."""
    service = machine / "usr/lib/systemd/system" / unit
    service.write_text("[Service]\nType=oneshot\nExecStart=/bin/kill\n")
    assert verify(machine, unit).stderr == ""
    drop_in = service.with_name(f"{unit}.d") / "updated.conf"
    configured = (PACKAGING / "debian/configured.conf").read_text()
    for line in drop_in.read_text().splitlines():
        if line.startswith("Condition"):
            assert line.replace("=!", "=|") in configured.splitlines()
    drop_in.write_text(drop_in.read_text().replace("Condition", "Wrong"))
    assert "updated.conf" in verify(machine, unit).stderr, "systemd reads it"


def test_the_working_directory_can_not_lend_the_health_check_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the working directory')")
    python, flags, *_ = settings(HEALTH, "ExecStart")[0].split()
    done = subprocess.run(
        [python, flags, "-c", "import json"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_health_check_waits_for_the_boot_to_be_over(tmp_path: Path) -> None:
    """The command of ExecStartPre=, with a systemctl that says yes at the third question."""
    asked = tmp_path / "asked"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{asked}\n[ "$(wc -l <{asked})" -ge 3 ]\n')
    systemctl.chmod(0o755)
    command = settings(HEALTH, "ExecStartPre")[0].removeprefix("-")
    done = run("sh", "-c", command.replace("sleep 1", "sleep 0.01"), PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert asked.read_text().splitlines() == ["is-active --quiet default.target"] * 3


def test_the_program_that_ends_the_health_check_is_shipped_and_can_run() -> None:
    ending = settings(HEALTH, "ExecStopPost")[0].split()[0]
    shipped = PACKAGING / "libexec" / Path(ending).name
    assert shipped.stat().st_mode & 0o777 == 0o755
    assert run("sh", "-n", str(shipped)).returncode == 0
