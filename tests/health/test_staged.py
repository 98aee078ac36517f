"""A release with an image of another version is left while there is a way back, and no other slot is for that."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.precedence import precedence, same_version
from tests.health.conftest import EMPTY, GOOD, GOOD_FIRST, LAST_TRY, REJECTED, TRIAL, Machine
from updated.core.version import Version

STAGED = "1.2.0"
Change = Callable[[Machine], Any]


def boot(machine: Machine, slot: str, boot_id: str, version: str) -> None:
    machine.write("proc/cmdline", f"quiet updated.slot={slot}\n")
    machine.write("proc/sys/kernel/random/boot_id", f"{boot_id}\n")
    machine.write("etc/os-release", f"IMAGE_VERSION={version}\n")


def daemon_did(machine: Machine, *kinds: str, version: str = STAGED) -> None:
    with (machine.root / "var/lib/updated/history.jsonl").open("a") as file:
        for kind in kinds:
            line = {"at": "2026-11-22T10:00:00Z", "kind": kind, "version": version, "text": ""}
            file.write(json.dumps(line) + "\n")


def take_baseline(machine: Machine) -> None:
    assert machine.health("--target", STAGED, verb="baseline").returncode == 0


@pytest.fixture
def staged(machine: Machine) -> Machine:
    """Slot a ran and was judged, 1.2.0 was staged in slot b, and slot b boots: its image says 1.3.0."""
    machine.set(GOOD_FIRST, EMPTY).required(passes=True)
    boot(machine, "a", "first", "1.1.0")
    assert machine.health().returncode == 0
    take_baseline(machine)
    daemon_did(machine, "install", "staged", "reboot")
    machine.set(GOOD, TRIAL)
    boot(machine, "b", "second", "1.3.0")
    return machine


@pytest.mark.parametrize("trial", [TRIAL, LAST_TRY])
@pytest.mark.parametrize("says", ["1.3.0", "1.1.0"])
def test_an_image_of_another_version_than_was_staged_is_rejected(staged: Machine, trial: str, says: str) -> None:
    staged.set(GOOD, trial).write("etc/os-release", f"IMAGE_VERSION={says}\n")
    made = staged.health()
    assert (made.returncode, staged.attributes) == (3, (GOOD, REJECTED))
    document = staged.document
    assert document["verdict"] == "rejected"
    assert document["reason"] == (
        f"required check staged-version failed: 1.2.0 was staged in slot b, but IMAGE_VERSION in its os-release says "
        f"{says}. Publish it again, as a release of the version that its image says."
    )
    assert [(check["name"], check["counts"]) for check in document["checks"]] == [
        ("staged-version", True), ("it", True),
    ]  # fmt: skip
    assert json.loads((staged.root / "var/lib/updated/health/rejected.json").read_text()) == document
    assert "1.2.0 was staged in slot b" in made.stdout


def test_it_is_rejected_before_a_probation_and_in_one(staged: Machine) -> None:
    staged.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=300)
    assert staged.health("--no-act").returncode == 3
    boot(staged, "b", "second", STAGED)
    assert staged.health().returncode == 0
    assert staged.document["verdict"] == "probation"
    boot(staged, "b", "third", "1.3.0")  # such as when the first boot read an os-release that was a site's own
    assert staged.health().returncode == 3


@pytest.mark.parametrize("aside", ["reboot", "failed", "hold", "unhold", "channel", "allow"])
def test_what_the_daemon_did_beside_it_changes_nothing(staged: Machine, aside: str) -> None:
    daemon_did(staged, aside, version="")
    assert staged.health("--no-act").returncode == 3


def passes(machine: Machine, expected: str = "confirmed") -> None:
    made = machine.health("--json")
    assert made.returncode == 0
    document = json.loads(made.stdout)
    assert document["verdict"] == expected
    assert [check["name"] for check in document["checks"]] == ["it"]


@pytest.mark.parametrize("says", ["1.2.0", "1.2", "1.2.0.0", '"1.2.0"'])
def test_the_version_that_was_staged_is_confirmed_however_it_is_written(staged: Machine, says: str) -> None:
    staged.write("etc/os-release", f"IMAGE_VERSION={says}\n")
    passes(staged)


@pytest.mark.parametrize(
    "text", ["", "ID=debian\nVERSION_ID=13\n", "IMAGE_VERSION=\n", "IMAGE_VERSION=v1.3.0\n", "IMAGE_VERSION=1.2.0+a\n"]
)
def test_an_image_that_says_no_version_of_its_own_is_not_left(staged: Machine, text: str) -> None:
    staged.write("etc/os-release", text)
    passes(staged)


def test_a_file_in_etc_that_is_older_than_the_image_does_not_count(staged: Machine) -> None:
    staged.write("usr/lib/os-release", f"IMAGE_VERSION={STAGED}\n")
    passes(staged)


def no_baseline(machine: Machine) -> None:
    machine.baseline_file.unlink()


def damaged_baseline(machine: Machine) -> None:
    machine.baseline_file.write_bytes(machine.baseline_file.read_bytes()[:-9])


def baseline_with(**changes: Any) -> Change:
    def change(machine: Machine) -> None:
        machine.baseline_file.write_text(json.dumps({**json.loads(machine.baseline_file.read_text()), **changes}))

    return change


def daemon_then(*kinds: str, version: str = STAGED) -> Change:
    return lambda machine: daemon_did(machine, *kinds, version=version)


def lost(path: str) -> Change:
    return lambda machine: (machine.root / "var/lib/updated" / path).unlink()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(no_baseline, id="there is no baseline"),
        pytest.param(damaged_baseline, id="the baseline is damaged"),
        pytest.param(baseline_with(target=None), id="nobody told what was to boot"),
        pytest.param(baseline_with(boot_id=None), id="nobody knows of which boot it is"),
        pytest.param(baseline_with(boot_id="older"), id="the old slot ran since: this trial is another one"),
        pytest.param(baseline_with(slot="c"), id="it is of a slot that is not there"),
        pytest.param(baseline_with(slot="b"), id="it is of this slot itself"),
        pytest.param(daemon_then("install"), id="something newer is being written"),
        pytest.param(daemon_then("install", "staged", version="1.3.0"), id="a newer one was staged without a baseline"),
        pytest.param(daemon_then("withdrawn"), id="it was withdrawn, and this is by hand"),
        pytest.param(daemon_then("fell-back"), id="it failed, and this is by hand"),
        pytest.param(daemon_then("rolled-back"), id="a person rolled back"),
        pytest.param(daemon_then("import"), id="a person imported something"),
        pytest.param(lost("history.jsonl"), id="the daemon staged nothing"),
        pytest.param(lost("health/history.jsonl"), id="health knows of no boot"),
    ],
)
def test_what_is_not_surely_the_release_that_was_staged_is_not_left(staged: Machine, change: Change) -> None:
    change(staged)
    passes(staged)


@pytest.mark.parametrize("line", ["[1]", '{"kind": []}', '{"kind": "staged", "version": 7}', '{"kind": "stag'])
def test_a_damaged_history_rejects_nothing_by_itself(staged: Machine, line: str) -> None:
    (staged.root / "var/lib/updated/history.jsonl").write_text(f"{line}\n")
    passes(staged)


def test_a_slot_that_is_armed_by_hand_after_a_trial_that_never_came_up_is_not_left(staged: Machine) -> None:
    """The daemon is off, and the baseline of the trial is still there."""
    staged.set(GOOD, REJECTED)
    boot(staged, "a", "third", "1.1.0")
    assert staged.health().returncode == 0
    staged.set(GOOD, TRIAL)
    boot(staged, "b", "fourth", "1.3.0")
    passes(staged)


@pytest.mark.parametrize("a", [EMPTY, REJECTED, TRIAL])
def test_it_is_kept_where_no_confirmed_slot_is_behind_it(staged: Machine, a: str) -> None:
    staged.set(a, TRIAL)
    passes(staged)


def test_a_slot_that_was_confirmed_before_is_not_called_sick_for_it(staged: Machine) -> None:
    staged.set(GOOD, GOOD_FIRST)
    passes(staged, "healthy")


def test_the_old_slot_is_not_looked_at_after_a_roll_back_or_a_trial_that_never_came_up(staged: Machine) -> None:
    staged.set(GOOD_FIRST, TRIAL)
    boot(staged, "a", "third", "1.1.0")
    passes(staged, "healthy")


VERSIONS = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[0-9a-z]{1,2}(\.[0-9a-z]{1,2})?)?", fullmatch=True)


@given(VERSIONS, VERSIONS)
def test_versions_are_the_same_for_health_as_for_the_daemon(one: str, other: str) -> None:
    assert same_version(one, other) == (Version(one) == Version(other))
    assert same_version(one, f"{one}.") is False
    assert precedence(f"{one}.") is None
