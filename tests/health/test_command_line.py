"""`python -m health` as a process, on the partition table of a real disk image, with sgdisk as the judge."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from health.usage import options_of
from tests.health.conftest import (
    CHECKS,
    EMPTY,
    GOOD,
    GOOD_FIRST,
    LAST_TRY,
    REJECTED,
    REPOSITORY,
    TRIAL,
    Disks,
    Machine,
    Put,
    copy_program,
    ends,
)


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY])
def test_a_slot_on_trial_that_passes_is_confirmed(machine: Machine, trial: str) -> None:
    made = machine.set(GOOD, trial).required(passes=True).health()
    assert (made.returncode, made.stderr) == (0, "")
    assert machine.attributes == (GOOD, GOOD_FIRST)
    document = machine.document
    assert (document["verdict"], document["reason"]) == ("confirmed", None)
    assert (document["slot"], document["version"], document["boot_id"]) == ("b", "1.2.0", "6f2c")
    assert [(check["name"], check["result"]) for check in document["checks"]] == [("it", "pass")]
    assert document["started"] <= document["finished"]
    assert not machine.motd.exists()


def test_a_slot_on_trial_without_any_check_is_confirmed(machine: Machine) -> None:
    made = machine.health()
    assert made.returncode == 0
    assert "there are no checks" in made.stdout
    assert machine.attributes == (GOOD, GOOD_FIRST)


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY])
def test_a_slot_on_trial_that_fails_is_rejected_and_a_reboot_is_wanted(machine: Machine, trial: str) -> None:
    made = machine.set(GOOD, trial).required(passes=True, name="good").required(passes=False).health()
    assert (made.returncode, made.stderr) == (3, "")
    assert machine.attributes == (GOOD, REJECTED)
    assert machine.document["verdict"] == "rejected"
    assert machine.document["reason"].startswith("required check it failed: / has ")
    assert (machine.root / "run/updated/health.json").read_bytes() == machine.verdict_file.read_bytes()
    assert "was rejected" in machine.motd.read_text()


def test_a_sick_slot_without_a_way_back_is_kept(machine: Machine) -> None:
    made = machine.set(EMPTY, TRIAL).required(passes=False).health()
    assert made.returncode == 4
    assert machine.attributes == (EMPTY, TRIAL)
    assert machine.document["verdict"] == "no-fallback"
    assert "no other slot can boot" in machine.motd.read_text()


@pytest.mark.parametrize(("passes", "code", "verdict"), [(True, 0, "healthy"), (False, 1, "sick")])
def test_the_boot_reference_of_a_confirmed_slot_is_left_alone(
    machine: Machine, passes: bool, code: int, verdict: str
) -> None:
    machine.set(GOOD, GOOD_FIRST).required(passes)
    before = machine.disk.read_bytes()
    assert machine.health().returncode == code
    assert machine.disk.read_bytes() == before
    assert machine.document["verdict"] == verdict
    assert machine.motd.exists() == (not passes)


def test_not_even_a_damaged_table_is_written_for_a_slot_that_is_healthy(machine: Machine) -> None:
    machine.set(GOOD, GOOD_FIRST).damage_primary_table()
    before = machine.disk.read_bytes()
    assert machine.health().returncode == 0
    assert machine.disk.read_bytes() == before


def test_a_wanted_check_that_fails_is_told_and_nothing_more(machine: Machine) -> None:
    machine.write(f"{CHECKS}/wanted.d/ntp.toml", 'type = "mount"\npath = "/no"\nretries = 0\n')
    made = machine.health()
    assert made.returncode == 0
    assert "✗ wanted   ntp  failed: nothing is mounted on /no" in made.stdout
    assert machine.attributes == (GOOD, GOOD_FIRST)


def test_a_required_check_that_can_not_be_read_rejects_the_trial(machine: Machine) -> None:
    machine.write(f"{CHECKS}/required.d/web.toml", 'type = "http"\nulr = "http://localhost/"\n')
    made = machine.health()
    assert made.returncode == 3
    (check,) = machine.document["checks"]
    assert (check["type"], check["result"]) == ("invalid", "fail")
    assert check["output"].startswith(f"/{CHECKS}/required.d/web.toml:2: ulr: ")


def test_a_wanted_check_that_can_not_be_read_is_told_and_nothing_more(machine: Machine) -> None:
    machine.write(f"{CHECKS}/wanted.d/web.toml", "type = ")
    made = machine.health()
    assert made.returncode == 0
    assert "it is not TOML" in made.stdout


@pytest.mark.parametrize(("passes", "first", "second"), [(True, 0, 0), (False, 3, 3)])
def test_running_twice_ends_as_running_once(machine: Machine, passes: bool, first: int, second: int) -> None:
    machine.required(passes)
    assert machine.health().returncode == first
    disk = machine.disk.read_bytes()
    assert machine.health().returncode == second
    assert machine.disk.read_bytes() == disk


def test_a_rejection_stands_when_the_checks_pass_afterwards(machine: Machine) -> None:
    assert machine.required(passes=False).health().returncode == 3
    assert machine.required(passes=True).health().returncode == 3
    assert machine.attributes == (GOOD, REJECTED)


def test_a_persons_word_during_the_checks_counts(machine: Machine, put: Put, disks: Disks) -> None:
    """The slot is confirmed by hand while its checks run, which fail then."""
    for program in ("/bin/sh", "/bin/cat"):
        copy_program(program, machine.root)
    put("confirmed.img", disks(GOOD, GOOD_FIRST))
    put(f"{CHECKS}/required.d/it", "#!/bin/sh\n/bin/cat /confirmed.img >/disk.img\nexit 1\n", mode=0o755)
    assert machine.health().returncode == 1
    assert machine.document["verdict"] == "sick"
    assert machine.attributes == (GOOD, GOOD_FIRST)


def baseline(machine: Machine, passes: bool, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Takes the baseline in slot a, from which 1.2.0 is armed, and boots slot b."""
    machine.set(GOOD_FIRST, EMPTY).required(passes)
    machine.write("etc/os-release", "IMAGE_VERSION=1.1.0\n")
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    made = machine.health("--target", "1.2.0", *arguments, verb="baseline")
    machine.set(GOOD, TRIAL)
    machine.write("etc/os-release", "IMAGE_VERSION=1.2.0\n")
    machine.write("proc/cmdline", "quiet updated.slot=b\n")
    return made


def test_a_baseline_keeps_what_the_checks_say_and_leaves_the_boot_reference_alone(machine: Machine) -> None:
    machine.set(GOOD_FIRST, EMPTY)
    before = machine.disk.read_bytes()
    machine.required(passes=False, name="web").required(passes=True, name="db")
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    made = machine.health("--target", "1.3.0", verb="baseline")
    assert (made.returncode, made.stderr) == (0, "")
    assert machine.disk.read_bytes() == before
    assert not machine.verdict_file.exists()
    document = json.loads(machine.baseline_file.read_text())
    assert {key: document[key] for key in ("slot", "version", "boot_id", "target")} == {
        "slot": "a", "version": "1.2.0", "boot_id": "6f2c", "target": "1.3.0",
    }  # fmt: skip
    assert [(check["name"], check["result"]) for check in document["checks"]] == [("db", "pass"), ("web", "fail")]
    assert "2 of 2 checks came to a result" in made.stdout
    printed = json.loads(machine.health("--json", verb="baseline").stdout)
    assert printed == json.loads(machine.baseline_file.read_text())


def test_a_check_that_failed_before_the_update_as_well_does_not_reject(machine: Machine) -> None:
    baseline(machine, passes=False)
    made = machine.health()
    assert made.returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)
    assert "does not count: it failed before the update as well" in made.stdout
    document = machine.document
    (check,) = document["checks"]
    assert (check["result"], check["counts"], check["before"]) == ("fail", False, "fail")
    assert (document["baseline"]["version"], document["baseline"]["reason"]) == ("1.1.0", None)


def test_a_check_that_passed_before_the_update_rejects(machine: Machine) -> None:
    baseline(machine, passes=True)
    assert machine.required(passes=False).health().returncode == 3
    (check,) = machine.document["checks"]
    assert (check["counts"], check["before"]) == (True, "pass")


def test_a_check_that_always_counts_rejects_although_it_failed_before(machine: Machine) -> None:
    machine.write(
        f"{CHECKS}/required.d/strict.toml", 'type = "mount"\npath = "/no"\nretries = 0\ncount = "always"\n'
    )
    baseline(machine, passes=True)
    assert machine.health().returncode == 3


def test_a_check_that_was_skipped_before_the_update_does_not_reject_and_a_new_one_does(machine: Machine) -> None:
    machine.came_to(it="skip")
    assert machine.required(passes=False).health("--no-act").returncode == 0
    assert machine.required(passes=False, name="new").health("--no-act").returncode == 3


@pytest.mark.parametrize("damage", ["missing", "damaged", "of the slot itself", "for another version"])
def test_without_a_baseline_that_can_be_trusted_all_required_checks_count(machine: Machine, damage: str) -> None:
    baseline(machine, passes=False)
    document = json.loads(machine.baseline_file.read_text())
    if damage == "missing":
        machine.baseline_file.unlink()
    elif damage == "damaged":
        machine.baseline_file.write_bytes(machine.baseline_file.read_bytes()[:-100])
    elif damage == "of the slot itself":
        machine.baseline_file.write_text(json.dumps({**document, "slot": "b"}))
    else:
        machine.baseline_file.write_text(json.dumps({**document, "target": "1.1.5"}))
    assert machine.health().returncode == 3
    assert machine.document["baseline"]["version"] is None
    assert "baseline" in machine.document["baseline"]["reason"]


@pytest.mark.parametrize("passes", [True, False])
def test_a_baseline_is_spent_when_the_slot_is_judged(machine: Machine, passes: bool) -> None:
    baseline(machine, passes=True)
    machine.required(passes).health("--no-act")
    assert machine.baseline_file.exists()
    machine.health()
    assert not machine.baseline_file.exists()


def test_a_slot_that_was_confirmed_is_not_compared(machine: Machine) -> None:
    baseline(machine, passes=False)
    assert machine.set(GOOD, GOOD_FIRST).health().returncode == 1
    assert machine.document["baseline"]["reason"] == "slot b was confirmed before"


def test_what_has_no_result_in_time_is_not_in_the_baseline_and_counts(machine: Machine, put: Put) -> None:
    copy_program("/bin/sh", machine.root)
    os.mkfifo(machine.root / "started")
    os.mkfifo(machine.root / "never")
    put(f"{CHECKS}/required.d/slow", "#!/bin/sh\necho $$ >/started\nread x </never\n", mode=0o755)
    reader = os.open(machine.root / "started", os.O_RDONLY | os.O_NONBLOCK)
    made = baseline(machine, True, "--most-seconds", "2")
    assert made.returncode == 0
    assert "1 of 2 checks came to a result" in made.stdout
    assert [check["name"] for check in json.loads(machine.baseline_file.read_text())["checks"]] == ["it"]
    assert ends(int(os.read(reader, 100)))
    os.close(reader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("version", "target", "stays"),
    [
        ("1.1.0", ("--target=1.2.0",), True),  # the same update, once more
        ("1.1.0", ("--target=1.3.0",), False),
        ("1.1.0", (), False),
        ("1.1.1", ("--target=1.2.0",), False),  # another release in the slot
    ],
)  # fmt: skip
def test_an_interrupted_baseline_leaves_the_one_before_only_if_it_tells_of_the_same_update(
    machine: Machine, put: Put, number: signal.Signals, version: str, target: tuple[str, ...], stays: bool
) -> None:
    baseline(machine, passes=True)
    before = machine.baseline_file.read_bytes()
    copy_program("/bin/sh", machine.root)
    for fifo in ("started", "never"):
        os.mkfifo(machine.root / fifo)
    put(f"{CHECKS}/required.d/slow", "#!/bin/sh\necho $$ >/started\nread x </never\n", mode=0o755)
    machine.write("etc/os-release", f"IMAGE_VERSION={version}\n")
    machine.write("proc/cmdline", "quiet updated.slot=a\n")
    command = machine.command(*target, verb="baseline")
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as process:
        slow = int((machine.root / "started").read_text())
        process.send_signal(number)
        process.wait(20)
    if number == signal.SIGKILL:
        os.kill(slow, signal.SIGKILL)  # nobody else does
    assert machine.baseline_file.exists() == stays
    assert not stays or machine.baseline_file.read_bytes() == before


@pytest.mark.parametrize("verb", ["judge", "baseline"])
@pytest.mark.parametrize("setting", ["greenboot", "health_checker"])
def test_the_checks_of_another_checker_can_be_left_out(machine: Machine, put: Put, setting: str, verb: str) -> None:
    put("usr/lib/greenboot/check/required.d/greenboot.sh", "#!/bin/sh\n")
    put("usr/libexec/health-checker/health_checker", "#!/bin/sh\n", mode=0o755)
    machine.also_in_health(f"{setting} = false")
    told = json.loads(machine.health("--json", verb=verb).stdout)
    others = {"greenboot/greenboot.sh", "health-checker/health_checker"}
    left_out = {name for name in others if name.split("/")[1].startswith(setting)}
    assert {check["name"] for check in told["checks"]} == others - left_out


def test_in_a_baseline_nothing_settles_since_the_machine_came_up_long_ago(machine: Machine) -> None:
    machine.write(f"{CHECKS}/wanted.d/late.toml", 'type = "mount"\npath = "/"\nretries = 0\nsettle_seconds = 3000\n')
    assert "2 of 2 checks" in baseline(machine, True, "--most-seconds", "60").stdout


def test_a_baseline_that_can_not_be_written_leaves_no_older_one(machine: Machine) -> None:
    baseline(machine, passes=False)
    made = machine.health(verb="baseline", prefix=limited_files(10))
    assert made.returncode == 1
    assert made.stderr.startswith("/var/lib/updated/health/baseline.json: it can't be written (")
    assert not machine.baseline_file.exists()


@pytest.mark.parametrize(
    ("booted", "code", "told"),
    [
        ("1.2.0", 0, "1.2.0 was armed, and runs"),
        ("1.2", 0, "1.2 was armed, and runs"),
        ("1.1.0", 3, "1.2.0 was armed, but 1.1.0 runs"),
    ],
)
def test_the_version_that_booted_has_to_be_the_one_that_was_armed(
    machine: Machine, booted: str, code: int, told: str
) -> None:
    machine.write(f"{CHECKS}/required.d/version.toml", 'type = "booted-version"\n')
    assert baseline(machine, passes=True).returncode == 0
    machine.write("etc/os-release", f"IMAGE_VERSION={booted}\n")
    assert machine.health().returncode == code
    assert machine.document["checks"][1]["output"] == told


def test_no_version_is_wanted_of_a_slot_that_nobody_armed(machine: Machine) -> None:
    machine.write(f"{CHECKS}/required.d/version.toml", 'type = "booted-version"\n')
    assert machine.health("--no-act").returncode == 0
    baseline(machine, passes=True)
    machine.set(GOOD_FIRST, TRIAL).write("proc/cmdline", "quiet updated.slot=a\n")  # the trial never came up
    assert machine.health("--no-act").returncode == 0
    untold = json.loads(machine.baseline_file.read_text()) | {"target": None}
    machine.baseline_file.write_text(json.dumps(untold))
    machine.set(GOOD, TRIAL).write("proc/cmdline", "quiet updated.slot=b\n")
    assert machine.health("--no-act").returncode == 0


def test_json_prints_the_document_of_the_verdict_file(machine: Machine) -> None:
    made = machine.required(passes=False).health("--json")
    assert made.returncode == 3
    assert json.loads(made.stdout) == machine.document


@pytest.mark.parametrize(("passes", "code"), [(True, 0), (False, 3)])
def test_no_act_judges_and_writes_nothing(machine: Machine, passes: bool, code: int) -> None:
    machine.required(passes)
    before = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")}
    made = machine.health("--no-act")
    assert made.returncode == code
    assert "would be" in made.stdout
    assert {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")} == before


def test_the_slot_is_found_by_the_partuuid_of_the_root(machine: Machine) -> None:
    partuuid = machine.sgdisk("-i2").split("Partition unique GUID: ")[1].split()[0]
    machine.write("proc/cmdline", f"root=PARTUUID={partuuid} ro\n")
    assert machine.health().returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)


@pytest.mark.parametrize("cmdline", ["root=/dev/sda2 ro\n", "updated.slot=c\n", None])
def test_an_unknown_running_slot_is_an_error_and_never_guessed(machine: Machine, cmdline: str | None) -> None:
    machine.write("proc/cmdline", cmdline or "")
    if cmdline is None:
        (machine.root / "proc/cmdline").unlink()
    before = machine.disk.read_bytes()
    made = machine.health()
    assert made.returncode == 5
    assert "slot" in made.stderr
    assert machine.disk.read_bytes() == before
    assert not machine.verdict_file.exists()


def test_a_boot_reference_that_can_not_be_read_is_told_before_any_check_runs(machine: Machine) -> None:
    machine.disk.write_bytes(bytes(4 * 1024 * 1024))
    made = machine.required(passes=True).health()
    assert (made.returncode, made.stdout) == (5, "")
    assert made.stderr


def test_a_damaged_primary_table_does_not_stand_in_the_way(machine: Machine) -> None:
    machine.damage_primary_table()
    assert machine.health().returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)


def by_grub(machine: Machine, configuration: str = "") -> Path:
    """The environment block of a machine whose loader is GRUB; slot b is on the last boot of its trial."""
    machine.configure(f'[boot]\nbackend = "grub"\n{configuration}')
    block = machine.root / "boot/grub/grubenv"
    block.parent.mkdir(parents=True)
    subprocess.run(["grub-editenv", str(block), "create"], check=True)
    set_variables(block, "ORDER=B A", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=0", "B_TRIES=0")
    return block


def set_variables(block: Path, *variables: str) -> None:
    subprocess.run(["grub-editenv", str(block), "set", *variables], check=True)


def variables_in(block: Path) -> dict[str, str]:
    listed = subprocess.run(["grub-editenv", str(block), "list"], check=True, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in listed.stdout.splitlines())


def test_the_boot_reference_of_grub_is_judged_alike(machine: Machine) -> None:
    block = by_grub(machine)
    assert machine.required(passes=False).health().returncode == 3
    left = variables_in(block)
    assert (left["B_OK"], left["ORDER"]) == ("0", "A B")


def test_a_confirmed_slot_has_no_boots_that_are_counted_by_default(machine: Machine) -> None:
    block = by_grub(machine)
    assert machine.health().returncode == 0
    assert not variables_in(block).keys() & {"B_TRIES", "B_GOOD"}


def test_with_count_confirmed_a_confirmation_gives_the_slot_all_its_boots(machine: Machine) -> None:
    """So that one which breaks later falls back as well."""
    block = by_grub(machine, "count_confirmed = true\ntries = 5\n")
    assert machine.health().returncode == 0
    left = variables_in(block)
    assert (left["B_OK"], left["B_TRIES"], left["B_GOOD"]) == ("1", "5", "1")


def test_with_count_confirmed_a_slot_that_was_confirmed_before_is_left_alone(machine: Machine) -> None:
    """Its boots are given again by `bootctl recount`, not here."""
    block = by_grub(machine, "count_confirmed = true\n")
    set_variables(block, "B_TRIES=1", "B_GOOD=1")
    before = block.read_bytes()
    assert machine.health().returncode == 0
    assert machine.required(passes=False).health().returncode == 1
    assert block.read_bytes() == before


def test_with_count_confirmed_a_loader_that_can_not_count_them_counts_none(machine: Machine) -> None:
    machine.configure('[disk]\nimage = "/disk.img"\n[boot]\ncount_confirmed = true\n')
    assert machine.health().returncode == 0
    assert machine.attributes == (GOOD, GOOD_FIRST)


def limited_files(size: int) -> tuple[str, ...]:
    """No file can be written beyond `size` bytes, as on a full disk."""
    return ("prlimit", f"--fsize={size}", "--")


def test_a_confirmation_that_can_not_be_written_is_not_told_as_one(machine: Machine) -> None:
    """The verdict file has room, but the write of the partition table ends within its first sector."""
    made = machine.health(prefix=limited_files(1000))
    assert made.returncode == 5
    assert "can't be written" in made.stderr
    assert machine.attributes == (GOOD, TRIAL)
    assert not machine.verdict_file.exists()


def test_the_reason_of_a_rejection_is_on_disk_before_the_slot_is_given_up(machine: Machine) -> None:
    made = machine.required(passes=False).health(prefix=limited_files(8192))
    assert made.returncode == 5
    assert machine.document["verdict"] == "rejected"
    assert machine.document["reason"].startswith("required check it failed")


@pytest.mark.parametrize(("passes", "code", "b"), [(True, 0, GOOD_FIRST), (False, 3, REJECTED)])
def test_a_verdict_that_can_not_be_written_does_not_keep_the_boot_reference_from_changing(
    machine: Machine, passes: bool, code: int, b: str
) -> None:
    machine.write("var/lib/updated/health", "a file where the folder should be")
    made = machine.required(passes).health()
    assert made.returncode == code
    assert made.stderr.startswith("/var/lib/updated/health/verdict.json: it can't be written (")
    assert machine.attributes == (GOOD, b)


@pytest.mark.parametrize("stream", ["/dev/full", "closed pipe"])
def test_an_output_that_nobody_takes_does_not_change_the_exit_status(machine: Machine, stream: str) -> None:
    machine.required(passes=False)
    if stream == "/dev/full":
        output = os.open(stream, os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    try:
        made = subprocess.run(
            machine.command(), cwd=REPOSITORY, stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(output)
    assert (made.returncode, made.stderr) == (3, "")


def test_an_output_without_unicode_is_no_obstacle(machine: Machine) -> None:
    made = machine.required(passes=True).health(prefix=("env", "PYTHONIOENCODING=ascii"))
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("? required it")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_ends_its_checks_and_changes_nothing(
    machine: Machine, put: Put, number: signal.Signals
) -> None:
    copy_program("/bin/sh", machine.root)
    for fifo in ("started", "never"):
        os.mkfifo(machine.root / fifo)
    put(f"{CHECKS}/required.d/it", "#!/bin/sh\necho $$ >/started\nread x </never\n", mode=0o755)
    with subprocess.Popen(machine.command(), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        pid = int((machine.root / "started").read_text())
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in told
    assert ends(pid)
    assert machine.attributes == (GOOD, TRIAL)
    assert not machine.verdict_file.exists()


def test_a_broken_configuration_is_told_with_file_and_line(machine: Machine) -> None:
    machine.write("etc/updated/updated.toml", '[disk]\nimage = "/disk.img"\ndisc = 1\n')
    made = machine.health()
    assert made.returncode == 2
    assert "etc/updated/updated.toml:3: disk.disc: " in made.stderr


@pytest.mark.parametrize(
    "words", [["--root", "DIR", "judge"], ["--root=DIR", "judge"], ["judge", "--root", "DIR"], ["--root", "DIR"],
              ["--root", "/nowhere", "judge", "--root", "DIR"]], ids=" ".join,
)  # fmt: skip
def test_the_root_is_taken_before_the_verb_and_behind_it(words: list[str]) -> None:
    found = options_of([word.replace("DIR", "judge") for word in words])
    assert (found.verb, found.root) == ("judge", "judge"), "the directory has the name of a verb"
    baseline = options_of(["--root", "/mnt", "baseline", "--target", "1.2.0"])
    assert (baseline.verb, baseline.root, baseline.target) == ("baseline", "/mnt", "1.2.0")
    assert options_of(["judge"]).root == options_of(["--no-act"]).root == "/"


def test_wrong_usage_is_told(machine: Machine) -> None:
    assert machine.health("--frobnicate").returncode == 2
    assert machine.health("--root", str(machine.root / "no")).returncode == 2
    assert machine.health(verb="baselien").returncode == 2
    for value in ("0", "-1", "3601", "nan", "x"):
        made = machine.health("--most-seconds", value, verb="baseline")
        assert made.returncode == 2
        assert f"argument --most-seconds: '{value}' is no number of seconds above 0, up to 3600" in made.stderr
