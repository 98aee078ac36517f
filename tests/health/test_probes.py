"""Attempts that need only files and processes."""

import os
import shutil
from pathlib import Path

import pytest

from health.check import OUTPUT_LIMIT, Attempt, Check, InvalidProbe, Pace, Probe
from health.commands import Commands
from health.probes import Surroundings, attempt
from health.probes.programs import ExecProbe, PluginProbe
from health.probes.storage import DiskSpaceProbe, MountProbe
from tests.health.conftest import Put, copy_program


def try_once(probe: Probe, root: str | Path = "/", timeout_seconds: float = 20) -> Attempt:
    check = Check("required", "it", probe, Pace(timeout_seconds=timeout_seconds))
    return attempt(check, Surroundings.of(str(root)))


def sh(script: str) -> ExecProbe:
    return ExecProbe(("/bin/sh", "-c", script))


def test_exit_status_0_passes_with_the_output() -> None:
    assert try_once(sh("echo fine")) == Attempt("pass", "fine\n")


@pytest.mark.parametrize("status", [1, 2, 126, 255])
def test_another_exit_status_is_the_checks_last_word(status: int) -> None:
    made = try_once(sh(f"echo why; exit {status}"))
    assert made == Attempt("fail", f"exit status {status}\nwhy\n", final=True)


def test_exit_status_75_asks_for_another_attempt() -> None:
    made = try_once(sh("echo not yet; exit 75"))
    assert (made.result, made.final) == ("fail", False)
    assert made.output.endswith("not yet\n")


def test_exit_status_77_skips() -> None:
    assert try_once(sh("echo no disk here; exit 77")) == Attempt("skip", "no disk here\n")


@pytest.mark.parametrize("status", [1, 75, 77])
def test_a_check_of_another_checker_fails_by_any_exit_status_but_0(status: int) -> None:
    made = try_once(PluginProbe("greenboot", ("/bin/sh", "-c", f"echo why; exit {status}")))
    assert made == Attempt("fail", f"exit status {status}\nwhy\n", final=True)
    assert try_once(PluginProbe("health-checker", ("/bin/sh", "-c", "echo fine"))) == Attempt("pass", "fine\n")


def test_a_killed_command_fails_and_names_the_signal() -> None:
    assert try_once(sh("kill -9 $$")).output.startswith("killed by signal 9")


def test_a_time_out_is_told_with_the_output_until_then() -> None:
    made = try_once(sh("echo half; sleep 1000"), timeout_seconds=0.3)
    assert made == Attempt("timeout", "killed after 0.3 s\nhalf\n")


def test_the_headline_of_a_failure_stays_within_the_limit_of_the_output() -> None:
    made = try_once(sh("seq 5000; exit 1"))
    assert len(made.output) == OUTPUT_LIMIT
    assert made.output.startswith("exit status 1\n")
    assert made.output.endswith("5000\n")


def test_a_program_that_can_not_be_started_fails_for_good_with_the_reason(put: Put) -> None:
    made = try_once(ExecProbe(("/no/such/program",)))
    assert made == Attempt("fail", "/no/such/program can't be started: No such file or directory", final=True)
    script = str(put("script", "echo without a first line that names the shell", mode=0o755))
    assert "Exec format error" in try_once(ExecProbe((script,))).output


def test_a_check_that_can_not_be_read_fails_for_good() -> None:
    assert try_once(InvalidProbe("x.toml:3: why")) == Attempt("fail", "x.toml:3: why", final=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory that holds a shell and nothing else, to be the root of commands."""
    copy_program("/bin/sh", tmp_path)
    return tmp_path


def test_below_another_root_a_command_sees_that_root_only(tree: Path, put: Put) -> None:
    put("etc/inside", "yes")
    made = try_once(sh("pwd; echo /*; read x < /etc/inside || :; echo $x"), root=tree)
    assert made.result == "pass"
    directories = " ".join(f"/{name}" for name in sorted(os.listdir(tree)))
    assert made.output == f"/\n{directories}\nyes\n"


def test_below_another_root_an_executable_check_is_run_by_its_path_inside(tree: Path, put: Put) -> None:
    put("etc/updated/health.d/required.d/it", '#!/bin/sh\necho "$0 $1"; exit 77\n', mode=0o755)
    probe = ExecProbe(("/etc/updated/health.d/required.d/it", "check"))
    assert try_once(probe, root=tree) == Attempt("skip", "/etc/updated/health.d/required.d/it check\n")


def test_below_another_root_a_time_out_still_ends_the_command(tree: Path) -> None:
    os.mkfifo(tree / "never")
    assert try_once(sh("read x </never"), root=tree, timeout_seconds=0.3).result == "timeout"


def test_disk_space_is_judged_by_what_the_file_system_reports(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert try_once(DiskSpaceProbe(str(tmp_path), free_bytes=free // 2)).result == "pass"
    short = try_once(DiskSpaceProbe(str(tmp_path), free_bytes=free * 2))
    assert short.result == "fail"


@pytest.mark.parametrize(
    ("free", "wanted", "told"),
    [
        (56_629_088_256, 2**60, ("56.6 GB", "1152921.6 TB")), (38_149_999, 38_150_001, ("38.1 MB", "38.2 MB")),
        (999, 1000, ("999 bytes", "1.0 kB")), (0, 1, ("0 bytes", "1 bytes")),
        (999_999_999, 10**9, ("999.9 MB", "1.0 GB")),
    ],
)
def test_disk_space_is_told_in_units_that_show_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, free: int, wanted: int, told: tuple[str, str]
) -> None:
    blocks = (1, 1, 5 * free, free, free, 4, 4, 4, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(blocks))
    short = try_once(DiskSpaceProbe("/", free_bytes=wanted))
    percent = "20.0" if free else "100.0"
    has, asked = told
    assert short == Attempt("fail", f"/ has {has} ({percent} %) and 100.0 % of the inodes free; {asked} wanted")

def test_each_limit_of_disk_space_has_to_hold(tmp_path: Path) -> None:
    path = str(tmp_path)
    assert try_once(DiskSpaceProbe(path, 1, 0.0, 0.0)).result == "pass"
    assert "100 % wanted" in try_once(DiskSpaceProbe(path, 1, 100.0, 0.0)).output


def test_a_file_system_without_a_table_of_inodes_is_never_short_of_them() -> None:
    assert os.statvfs("/proc").f_files == 0
    assert try_once(DiskSpaceProbe("/proc", free_inodes_percent=100.0)).result == "pass"


def test_disk_space_below_another_root_is_that_of_the_path_inside(tmp_path: Path) -> None:
    assert try_once(DiskSpaceProbe("/nothing", free_bytes=0), root=tmp_path).result == "fail"
    (tmp_path / "nothing").mkdir()
    assert try_once(DiskSpaceProbe("/nothing", free_bytes=0), root=tmp_path).result == "pass"


MOUNTINFO = r"""21 1 8:2 / / ro,relatime shared:1 - erofs /dev/sda2 ro,user_xattr
22 21 8:4 / /var rw,nosuid shared:2 master:3 - ext4 /dev/sda4 rw,errors=remount-ro
23 22 8:5 / /var rw,nodev - xfs /dev/sda5 rw
24 21 8:6 / /with\040space rw - ext4 /dev/sda6 rw
25 21 8:7 / /bind ro - ext4 /dev/sda7 rw
garbage
"""


@pytest.fixture
def mounted(tmp_path: Path, put: Put) -> Path:
    put("proc/self/mountinfo", MOUNTINFO)
    return tmp_path


@pytest.mark.parametrize(
    ("probe", "result"),
    [
        (MountProbe("/"), "pass"),
        (MountProbe("/", ("ro", "user_xattr"), "erofs"), "pass"),
        (MountProbe("/", ("rw",)), "fail"),
        (MountProbe("/", fstype="ext4"), "fail"),
        (MountProbe("/var/", ("rw", "nodev"), "xfs"), "pass"),
        (MountProbe("/var", ("nosuid",)), "fail"),
        (MountProbe("/with space"), "pass"),
        (MountProbe("/bind", ("ro",)), "pass"),
        (MountProbe("/bind", ("rw",)), "fail"),
        (MountProbe("/home"), "fail"),
    ],
)
def test_a_mount_is_judged_by_the_last_one_on_its_point_and_by_the_options_in_effect(
    mounted: Path, probe: MountProbe, result: str
) -> None:
    assert try_once(probe, root=mounted).result == result


def test_mounts_of_this_system_are_read_from_the_kernel() -> None:
    assert try_once(MountProbe("/proc", fstype="proc")).result == "pass"


def test_below_another_root_only_what_is_mounted_there_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert "nothing is mounted on /proc" in try_once(MountProbe("/proc"), root=tmp_path).output


def test_a_real_mount_below_another_root_is_found_by_its_path_inside() -> None:
    dev = next(point for point in ("/dev", "/sys", "/run") if os.path.ismount(point))
    inner = next(
        line.split(" ")[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split(" ")[4].startswith(f"{dev}/")
    )
    assert try_once(MountProbe(inner.removeprefix(dev)), root=dev).result == "pass"


def test_systemd_is_asked_only_about_the_system_that_runs(put: Put, tmp_path: Path) -> None:
    put("run/systemd/system/x")
    assert not Surroundings.of(str(tmp_path)).systemd
    assert Surroundings("/", True, Commands()).systemd
