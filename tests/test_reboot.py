"""The commands before and for a reboot: what each is given, and what comes of it when it fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given as with_any
from hypothesis import settings
from hypothesis import strategies as st

from updated.command import fault_of
from updated.core.document import format_time
from updated.core.errors import UpdatedError
from updated.reboot import ask_for_kexec, ask_for_reboot, ask_hooks, baseline_unit, take_baseline


def given(folder: Path, argument: str) -> list[str]:
    """The words that the command is called with."""
    command = folder / "command"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$0.words"\n')
    command.chmod(0o755)
    asyncio.run(ask_for_reboot([str(command), "reboot"], argument))
    return (folder / "command.words").read_text().splitlines()


def test_what_the_firmware_needs_is_one_word_as_systemctl_takes_it(tmp_path: Path) -> None:
    assert given(tmp_path, "0 tryboot") == ["reboot", "--reboot-argument=0 tryboot"]


def test_without_anything_for_the_firmware_the_command_is_as_configured(tmp_path: Path) -> None:
    assert given(tmp_path, "") == ["reboot"]


def test_no_reboot_becomes_a_start_of_a_kernel_that_somebody_loaded(tmp_path: Path) -> None:
    """As `systemctl reboot` of a newer systemd would have it."""
    asyncio.run(ask_for_reboot(["sh", "-c", f"echo $SYSTEMCTL_SKIP_AUTO_KEXEC >{tmp_path}/word"]))
    assert (tmp_path / "word").read_text() == "1\n"


def test_the_unit_for_kexec_is_started_and_its_failure_told(tmp_path: Path) -> None:
    start = ["sh", "-c", f'echo "$0" >{tmp_path}/unit']
    assert asyncio.run(ask_for_kexec(start)) is None
    assert (tmp_path / "unit").read_text() == "updated-kexec.service\n"
    assert asyncio.run(ask_for_kexec(["sh", "-c", "echo refused >&2; exit 1"])) == "ended with status 1 (refused)"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/systemctl", "reboot"], "No such file or directory"),
        (["sh", "-c", "echo not allowed >&2; exit 4"], "ended with status 4 (not allowed)"),
    ],
)
def test_a_command_that_fails_is_named_with_its_cause(command: list[str], words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        asyncio.run(ask_for_reboot(command))
    assert caught.value.code == "reboot-failed"
    assert command[0] in caught.value.what
    assert words in caught.value.cause


# ------------------------------------------------------------------------------------------------------ the baseline


VERSIONS = r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}(-[0-9A-Za-z]{1,4}([.-][0-9A-Za-z]{1,4}){0,2})?"


@settings(max_examples=15)
@with_any(st.from_regex(VERSIONS, fullmatch=True))
def test_the_unit_of_a_version_is_named_as_systemd_escapes_it(version: str) -> None:
    wanted = subprocess.run(
        ["systemd-escape", "--template=updated-baseline@.service", version], capture_output=True, text=True, check=True
    )
    assert baseline_unit(version) == wanted.stdout.strip()


def test_the_unit_is_the_last_word_of_the_command_that_starts_it(tmp_path: Path) -> None:
    start = ["sh", "-c", f'printf "%s\\n" "$@" >{tmp_path}/words', "start", "--wait"]
    assert asyncio.run(take_baseline(start, "1.2.0")) is None
    assert (tmp_path / "words").read_text().splitlines() == ["--wait", "updated-baseline@1.2.0.service"]


def test_a_baseline_that_can_not_be_taken_is_told_and_raises_nothing() -> None:
    told = asyncio.run(take_baseline(["sh", "-c", "echo no such unit >&2; exit 5"], "1.2.0"))
    assert told == "ended with status 5 (no such unit)"
    assert asyncio.run(take_baseline(["/nowhere/systemctl"], "1.2.0")) == "No such file or directory"


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    process = tmp_path / "process"
    assert asyncio.run(fault_of(["sh", "-c", f"echo $$ >{process}; exec sleep 60"], 0.5)) == (
        "did not end within 0.5 seconds"
    )
    assert not Path(f"/proc/{process.read_text().strip()}").exists()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_daemon_that_ends_leaves_no_command_behind(tmp_path: Path) -> None:
    process = tmp_path / "process"

    async def interrupted() -> None:
        task = asyncio.create_task(fault_of(["sh", "-c", f"echo $$ >{process}; exec sleep 60"], 60))
        await asyncio.to_thread(until, lambda: process.exists() and process.read_text().endswith("\n"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(interrupted())
    assert not Path(f"/proc/{process.read_text().strip()}").exists()


# --------------------------------------------------------------------------------------------------------- the hooks

FAILS = ["sh", "-c", "echo Job for updated-hooks@pre-reboot.service failed >&2; exit 1"]


def refusal(record: Path, command: list[str] = FAILS) -> UpdatedError:
    with pytest.raises(UpdatedError) as caught:
        asyncio.run(ask_hooks(command, str(record)))
    assert caught.value.code == "hook-refused"
    return caught.value


def write_record(file: Path, at: float, *programs: tuple[str, str, str]) -> Path:
    """As `health hooks` keeps it."""
    outcomes = [{"program": name, "result": result, "seconds": 1.0, "output": text} for name, result, text in programs]
    last = {"at": format_time(at), "passed": False, "programs": outcomes}
    file.write_text(json.dumps({"schema": 1, "hooks": {"pre-reboot": last}}))
    return file


def test_hooks_that_pass_are_no_obstacle(tmp_path: Path) -> None:
    asyncio.run(ask_hooks(["true"], str(tmp_path / "hooks.json")))


def test_the_hook_that_failed_is_named_with_what_it_said(tmp_path: Path) -> None:
    record = write_record(
        tmp_path / "hooks.json", time.time() + 2, ("/etc/updated/hooks/pre-reboot.d/10-mail", "pass", ""),
        ("/etc/updated/hooks/pre-reboot.d/20-drain", "fail", "3 pods are left\nexit status 4"),
    )  # fmt: skip
    error = refusal(record)
    assert error.what == "the pre-reboot hook /etc/updated/hooks/pre-reboot.d/20-drain"
    assert error.cause == "failed (3 pods are left exit status 4)"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"hooks": {"pre-reboot": {"at": 5, "programs": []}}}'])
def test_without_a_record_that_tells_it_the_service_manager_has_the_word(tmp_path: Path, text: str) -> None:
    (tmp_path / "hooks.json").write_text(text)
    for record in (tmp_path / "hooks.json", tmp_path / "missing"):
        assert "Job for updated-hooks@pre-reboot.service failed" in refusal(record).cause


def test_what_a_hook_did_an_hour_ago_is_not_told_as_the_reason(tmp_path: Path) -> None:
    record = write_record(tmp_path / "hooks.json", time.time() - 3600, ("/x/drain", "fail", "an old story"))
    assert "an old story" not in str(refusal(record))


def test_hooks_that_can_not_be_run_refuse_too(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "hooks.json", ["/nowhere/systemctl"]).cause
