"""Why a slot did not come up: told where something of its last boots tells it, and nothing where nothing does."""

import calendar
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from health import ending
from health.ending import IN_PROBATION, Ending, find, of_history
from health.failed_boot import records
from tests.health.conftest import GOOD, LAST_TRY, REJECTED, Machine, Put

BEFORE, ARMED, AFTER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"
NOW = "the boot after"
PANIC = b"Panic#2 Part1\n<0>[ 5.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n<4>more\n"
PANICKED = "the kernel panicked (Attempted to kill init! exitcode=0x00000100)"
DEADLINE = "no verdict 900 seconds after the start"


def line(boot_id: str, verdict: str = "unjudged", **about: Any) -> dict[str, Any]:
    return {"at": AFTER, "boot_id": boot_id, "slot": "b", "version": "1.2.0", "verdict": verdict,
            "reason": DEADLINE, **about}  # fmt: skip


OLD = line("old", "healthy", slot="a", version="1.1.0", reason=None)
THIS = line(NOW, "healthy", slot="a", version="1.1.0", reason=None)


@pytest.fixture
def armed(tmp_path: Path, put: Put) -> Path:
    """A root whose slot a took the baseline for 1.2.0 in slot b."""
    about = {"slot": "a", "version": "1.1.0", "boot_id": "old", "target": "1.2.0", "time": ARMED}
    put("var/lib/updated/health/baseline.json", json.dumps({"schema": 1, **about, "checks": []}))
    return tmp_path


def record(put: Put, name: str, content: bytes, at: str) -> None:
    seconds = calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%SZ"))
    os.utime(put(name, content), (seconds, seconds))


# ---------------------------------------------------------------------------------------------------- its own words


def test_boots_that_their_deadline_ended_said_so_once_for_all_of_them() -> None:
    lines = [OLD, line("1"), line("2"), line("3"), THIS]
    assert of_history(lines, "b", NOW) == Ending("1.2.0", DEADLINE)


def test_boots_that_ended_in_different_ways_tell_them_in_their_order() -> None:
    lines = [OLD, line("1", "probation", reason=None), line("2"), THIS]
    assert of_history(lines, "b", NOW).cause == f"{IN_PROBATION}; {DEADLINE}"


@pytest.mark.parametrize(
    "between", [OLD, line("0", version="1.1.9"), line("0", "rejected"), line("0", "confirmed"), {"slot": 1}, {}]
)
def test_what_another_trial_said_is_not_about_this_one(between: dict[str, Any]) -> None:
    lines = [OLD, line("0", reason="an old story"), between, line("1"), THIS]
    assert of_history(lines, "b", NOW).cause == DEADLINE


def test_a_trial_before_the_last_boot_of_the_old_slot_is_over() -> None:
    assert of_history([OLD, line("1"), OLD, THIS], "b", NOW) == Ending()


@pytest.mark.parametrize("about", [{"reason": None}, {"reason": ["x"]}, {"reason": "\x1b\n\t "}, {"version": 7}])
def test_a_damaged_line_harms_nothing(about: dict[str, Any]) -> None:
    found = of_history([OLD, line("1", **about), THIS], "b", NOW)
    assert found.cause in (None, DEADLINE)
    assert found.version in (None, "1.2.0")


def test_what_is_told_is_one_line_of_a_bounded_length() -> None:
    cause = of_history([line("1", reason="\x1b[31mred\nand " + "long" * 1000), THIS], "b", NOW).cause
    assert cause is not None
    assert cause.startswith("[31mred and long")
    assert cause.isprintable()
    assert len(cause) == ending.LINE_LIMIT


# ---------------------------------------------------------------------------------------------------------- a panic


@pytest.mark.parametrize("place", ["sys/fs/pstore/dmesg-efi-1", "var/lib/systemd/pstore/17/dmesg.txt"])
def test_a_panic_of_the_trial_is_told_with_its_message(armed: Path, put: Put, place: str) -> None:
    record(put, place, PANIC, AFTER)
    assert find(str(armed), "b", NOW) == Ending("1.2.0", PANICKED)


def test_a_panic_without_its_message_is_one_all_the_same(armed: Path, put: Put) -> None:
    record(put, "sys/fs/pstore/dmesg-efi-1", b"Panic#1 Part2\n<4>[ 5.0]  dump_stack+0x1\n", AFTER)
    assert find(str(armed), "b", NOW).cause == "the kernel panicked"


def test_a_panic_from_before_the_trial_is_not_of_it(armed: Path, put: Put) -> None:
    record(put, "var/lib/systemd/pstore/17/dmesg.txt", PANIC, BEFORE)
    assert find(str(armed), "b", NOW) == Ending("1.2.0", None)


def test_an_oops_that_the_kernel_survived_ended_nothing(armed: Path, put: Put) -> None:
    record(put, "sys/fs/pstore/dmesg-efi-1", b"Oops#1 Part1\n<4>[ 5.0] Oops: 0000 [#1] SMP\n", AFTER)
    assert find(str(armed), "b", NOW).cause is None


def test_without_a_baseline_nobody_knows_of_which_boot_a_panic_is(tmp_path: Path, put: Put) -> None:
    record(put, "sys/fs/pstore/dmesg-efi-1", PANIC, AFTER)
    assert find(str(tmp_path), "b", NOW) == Ending()


def test_a_baseline_for_another_release_tells_nothing_of_this_one(armed: Path, put: Put) -> None:
    put("var/lib/updated/health/history.jsonl", json.dumps(line("1", version="1.3.0")) + "\n")
    record(put, "sys/fs/pstore/dmesg-efi-1", PANIC, AFTER)
    assert find(str(armed), "b", NOW) == Ending("1.3.0", DEADLINE)


# ------------------------------------------------------------------------------------------------------- a watchdog


@pytest.mark.parametrize(("status", "told"), [("32", True), ("33\n", True), ("0", False), ("1", False), ("x", False)])
def test_a_watchdog_that_reset_the_machine_is_told(armed: Path, put: Put, status: str, told: bool) -> None:
    put("sys/class/watchdog/watchdog0/bootstatus", status)
    cause = find(str(armed), "b", NOW).cause
    assert cause == ("the watchdog says that it reset the machine" if told else None)


def test_a_second_watchdog_is_asked_where_the_first_has_nothing_to_say(armed: Path, put: Put) -> None:
    (armed / "sys/class/watchdog/watchdog0").mkdir(parents=True)
    put("sys/class/watchdog/watchdog1/bootstatus", "32")
    assert find(str(armed), "b", NOW).cause == "the watchdog says that it reset the machine"


def test_a_watchdog_is_not_asked_when_more_is_known(armed: Path, put: Put) -> None:
    put("sys/class/watchdog/watchdog0/bootstatus", "32")
    record(put, "sys/fs/pstore/dmesg-efi-1", PANIC, AFTER)
    assert find(str(armed), "b", NOW).cause == PANICKED


# ---------------------------------------------------------------------------------------------------------- damage

HISTORY = "var/lib/updated/health/history.jsonl"
RECORD = "sys/fs/pstore/dmesg-efi-1"
REJECTED_BEFORE = "var/lib/updated/health/rejected.json"


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def of_another_encoding(path: Path) -> None:
    path.write_bytes(json.dumps(line("1", reason="é"), ensure_ascii=False).encode("latin-1"))


def to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("damage", [huge, binary, nested, of_another_encoding, to_itself, Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", [HISTORY, RECORD])
@pytest.mark.timeout(60)
def test_whatever_lies_in_place_of_a_file_tells_nothing_and_holds_nobody_up(
    armed: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = armed / name
    path.parent.mkdir(parents=True, exist_ok=True)
    damage(path)
    assert find(str(armed), "b", NOW) == Ending("1.2.0", None)


@pytest.mark.parametrize("damage", [huge, os.mkfifo])
@pytest.mark.parametrize("name", [HISTORY, RECORD, REJECTED_BEFORE])
@pytest.mark.timeout(120)
def test_a_boot_after_a_fallback_is_judged_whatever_lies_in_place_of_a_file(
    machine: Machine, name: str, damage: Callable[[Path], None]
) -> None:
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    path = machine.set(GOOD, REJECTED if name == REJECTED_BEFORE else LAST_TRY).root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    damage(path)
    assert machine.health().returncode == 0
    assert kept(machine, "fallback.json")["reason"] == "slot b did not come up on trial"


@pytest.mark.parametrize("folder", ["sys/fs/pstore", "var/lib/systemd/pstore", "sys/class/watchdog",
                                    "sys/class/watchdog/watchdog0"])  # fmt: skip
def test_a_folder_that_is_a_link_to_itself_tells_nothing(armed: Path, folder: str) -> None:
    path = armed / folder
    path.parent.mkdir(parents=True)
    to_itself(path)
    assert find(str(armed), "b", NOW) == Ending("1.2.0", None)


def test_the_end_of_a_history_that_grew_beyond_all_bounds_is_read(armed: Path) -> None:
    path = armed / HISTORY
    huge(path)
    with path.open("ab") as file:
        file.write(b"\n" + json.dumps(line("1")).encode() + b"\n")
    assert find(str(armed), "b", NOW) == Ending("1.2.0", DEADLINE)


def test_of_two_records_with_one_name_the_newer_one_is_told_and_kept(armed: Path, put: Put) -> None:
    """systemd-pstore.service calls what it puts together dmesg.txt, in a folder of each boot."""
    record(put, "var/lib/systemd/pstore/17/dmesg.txt", PANIC.replace(b"init", b"idle"), "2026-01-02T10:00:00Z")
    record(put, "var/lib/systemd/pstore/18/dmesg.txt", PANIC, AFTER)
    assert find(str(armed), "b", NOW).cause == PANICKED
    assert records(str(armed)) == {"pstore-dmesg.txt": PANIC}


# ------------------------------------------------------------------------------------------------- what is made of it


@pytest.fixture
def fallen_back(machine: Machine) -> Machine:
    """Slot a runs again, since slot b came to no verdict in any of its boots."""
    for number in range(3):
        machine.write("proc/sys/kernel/random/boot_id", f"trial {number}\n")
        assert machine.health("--now", verb="deadline").returncode == 3
    machine.write("proc/sys/kernel/random/boot_id", f"{NOW}\n")
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    machine.write("etc/os-release", "IMAGE_VERSION=1.1.0\n")
    return machine.set(GOOD, LAST_TRY)


def kept(machine: Machine, name: str) -> Any:
    return json.loads((machine.root / "var/lib/updated/health" / name).read_text())


def test_what_ended_the_trial_is_in_all_places_that_tell_of_the_fallback(fallen_back: Machine) -> None:
    assert fallen_back.health().returncode == 0
    cause = "its check came to no verdict"
    assert kept(fallen_back, "fallback.json") == {
        "slot": "b", "version": "1.2.0", "cause": cause, "boot_id": NOW,
        "reason": f"slot b did not come up on trial: {cause}",
    }  # fmt: skip
    about = kept(fallen_back, "failed-boot/about.json")
    assert (about["slot"], about["version"], about["reason"]) == ("b", "1.2.0", cause)


def test_where_nothing_tells_what_ended_it_only_that_it_did_not_come_up_is_told(fallen_back: Machine) -> None:
    (fallen_back.root / "var/lib/updated/health/history.jsonl").unlink()
    assert fallen_back.health().returncode == 0
    note = kept(fallen_back, "fallback.json")
    assert (note["reason"], note["cause"]) == ("slot b did not come up on trial", None)
    assert kept(fallen_back, "failed-boot/about.json")["reason"] == note["reason"]


def test_a_rejection_is_its_own_reason(machine: Machine) -> None:
    assert machine.required(passes=False).health().returncode == 3
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    machine.write("proc/sys/kernel/random/boot_id", f"{NOW}\n")
    assert machine.required(passes=True).health().returncode == 0
    note = kept(machine, "fallback.json")
    assert note["reason"].startswith("required check it failed")
    assert note["cause"] is None
