"""A slot finds a state that it can read: the new one moves it forward, and what falls back moves it back."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import epoch
from health.epoch import Step, go_back, migrate, step
from tests.health.conftest import EMPTY, GOOD, GOOD_FIRST, REJECTED, TRIAL, Machine, copy_program

PROGRAMS = "usr/lib/updated/migrate.d"
NUMBERS = st.integers(0, 5)


@pytest.fixture
def image(machine: Machine) -> Machine:
    """Slot b runs on trial, with an image of epoch 1 whose migrations keep a list; the state is of epoch 0."""
    copy_program("/bin/sh", machine.root)
    boot(machine, 1)
    program(machine, "10-db", 'echo "10-db $*" >>/var/log-of-migrations')
    program(machine, "20-web", 'echo "20-web $*" >>/var/log-of-migrations')
    return machine.required(passes=True)


def boot(machine: Machine, number: int) -> None:
    machine.write("etc/os-release", f"IMAGE_VERSION=1.2.0\nUPDATED_STATE_EPOCH={number}\n")


def program(machine: Machine, name: str, text: str) -> None:
    machine.write(f"{PROGRAMS}/{name}", f"#!/bin/sh\n{text}\n")
    (machine.root / PROGRAMS / name).chmod(0o755)


def as_the_old_slot(machine: Machine) -> None:
    """It knows nothing of epoch 1."""
    for file in (machine.root / PROGRAMS).iterdir():
        file.unlink()
    machine.write("etc/os-release", "IMAGE_VERSION=1.1.0\n")
    machine.set(REJECTED, GOOD_FIRST)


def ran(machine: Machine) -> list[str]:
    log = machine.root / "var/log-of-migrations"
    return log.read_text().splitlines() if log.exists() else []


def state(machine: Machine) -> str:
    file = machine.root / epoch.EPOCH.lstrip("/")
    return file.read_text().strip() if file.exists() else "none"


FORWARD = ["10-db forward 0 1", "20-web forward 0 1"]
BACKWARD = ["20-web backward 1 0", "10-db backward 1 0"]


def test_a_new_image_moves_the_state_forward_before_its_checks_and_once(image: Machine) -> None:
    assert image.health().returncode == 0
    assert image.health().returncode == 0
    assert ran(image) == FORWARD
    assert state(image) == "1"


def test_an_image_that_is_rejected_takes_the_state_back(image: Machine) -> None:
    assert image.required(passes=False).health().returncode == 3
    assert ran(image) == FORWARD + BACKWARD
    assert state(image) == "0"


def test_after_a_panic_the_old_image_takes_the_state_back_with_what_the_new_one_left(image: Machine) -> None:
    assert migrate(str(image.root)) is None
    as_the_old_slot(image)
    assert image.health().returncode == 0
    assert ran(image) == FORWARD + BACKWARD
    assert state(image) == "0"


def test_a_migration_that_fails_rejects_the_slot_and_leaves_the_state_as_it_was(image: Machine) -> None:
    program(image, "20-web", '[ "$1" = backward ] && { echo back >>/var/log-of-migrations; exit 0; }; echo no; exit 4')
    made = image.health()
    assert made.returncode == 3
    assert image.attributes == (GOOD, REJECTED)
    reason = image.document["reason"]
    assert reason.startswith("required check state-epoch failed: ")
    assert "exit status 4" in reason
    assert ran(image) == ["10-db forward 0 1", "back", "10-db backward 1 0"]
    assert state(image) == "0"


def test_a_migration_that_hangs_is_ended_in_time_for_a_verdict_before_the_deadline(image: Machine) -> None:
    os.mkfifo(image.root / "never")
    program(image, "20-web", '[ "$1" = backward ] || read x </never; echo "20-web $*" >>/var/log-of-migrations')
    image.write("proc/uptime", "867.00 100.00\n")
    assert image.health().returncode == 3
    assert image.document["reason"].startswith("required check state-epoch failed: ")
    assert ran(image) == [*FORWARD[:1], *BACKWARD]
    assert state(image) == "0"


DIES = '[ "$1" = backward ] || kill -KILL $PPID; echo "20-web $*" >>/var/log-of-migrations'


def test_a_migration_that_was_cut_is_undone_by_the_old_image(image: Machine) -> None:
    program(image, "20-web", DIES)
    assert image.health().returncode == -signal.SIGKILL
    assert state(image) == "none"
    as_the_old_slot(image)
    assert image.health().returncode == 0
    assert ran(image)[-2:] == BACKWARD
    assert state(image) == "0"


def test_a_migration_that_was_cut_is_done_again_by_the_new_image(image: Machine) -> None:
    program(image, "20-web", DIES)
    assert image.health().returncode == -signal.SIGKILL
    program(image, "20-web", 'echo "20-web $*" >>/var/log-of-migrations')
    assert image.health().returncode == 0
    assert ran(image)[-2:] == FORWARD
    assert state(image) == "1"


def test_a_way_back_that_fails_is_told_and_tried_again_at_the_next_boot(image: Machine) -> None:
    program(image, "20-web", '[ "$1" = forward ]')
    assert migrate(str(image.root)) is None
    as_the_old_slot(image)
    assert image.health().returncode == 1
    assert state(image) == "1"
    (image.root / epoch.COPIES.lstrip("/") / "1/20-web").unlink()
    assert image.health().returncode == 0
    assert state(image) == "0"


def test_without_the_way_back_the_old_image_says_so_and_changes_nothing(image: Machine) -> None:
    image.write(epoch.EPOCH.lstrip("/"), "7\n")
    as_the_old_slot(image)
    assert image.health().returncode == 1
    assert "the state is of epoch 7, and the way back to 0 was not kept" in image.document["reason"]
    assert state(image) == "7"


def test_a_slot_on_trial_with_an_older_epoch_and_no_way_back_is_rejected(image: Machine) -> None:
    image.write(epoch.EPOCH.lstrip("/"), "7\n")
    assert image.health().returncode == 3


def test_without_any_migration_an_epoch_is_only_a_number(machine: Machine) -> None:
    boot(machine, 3)
    assert machine.required(passes=True).health().returncode == 0
    assert state(machine) == "3"
    as_the_old = machine.set(EMPTY, GOOD_FIRST)
    boot(as_the_old, 2)
    assert as_the_old.health().returncode == 0
    assert state(machine) == "2"


def test_an_image_without_an_epoch_touches_nothing(machine: Machine) -> None:
    assert machine.required(passes=True).health().returncode == 0
    assert state(machine) == "none"
    assert not (machine.root / epoch.COPIES.lstrip("/")).exists()


@pytest.mark.parametrize("text", ["x\n", "-1\n", "1.5\n", "9999999999\n", ""])
def test_a_damaged_epoch_is_told_and_nothing_is_migrated(image: Machine, text: str) -> None:
    image.write(epoch.EPOCH.lstrip("/"), text)
    assert image.health().returncode == 3
    assert "instead of an epoch" in image.document["reason"]
    assert ran(image) == []


def test_an_epoch_of_the_image_that_is_no_number_is_told(machine: Machine) -> None:
    machine.write("etc/os-release", "UPDATED_STATE_EPOCH=two\n")
    assert machine.health().returncode == 3
    assert "UPDATED_STATE_EPOCH='two' is no number" in machine.document["reason"]


def test_judging_without_acting_migrates_nothing(image: Machine) -> None:
    assert image.health("--no-act").returncode == 0
    assert ran(image) == []


def test_the_way_back_is_copied_before_anything_is_changed(image: Machine) -> None:
    program(image, "00-first", "[ -x /var/lib/updated/migrations/1/20-web ] && echo copied >>/var/log-of-migrations")
    image.set(GOOD, TRIAL)
    assert image.health().returncode == 0
    assert ran(image)[0] == "copied"


def test_going_back_where_nothing_was_migrated_does_nothing(machine: Machine) -> None:
    assert go_back(str(machine.root)) is None
    assert state(machine) == "none"


@given(NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_after_a_step_the_image_can_read_the_state_and_nothing_is_left_to_do(
    image_epoch: int, held: int, begun: int | None
) -> None:
    todo = step(image_epoch, held, begun)
    if todo is None:
        assert image_epoch == held
        assert begun is None or begun <= held
    else:
        assert todo.end == image_epoch
        assert (todo.start < todo.end) == (todo.direction == "forward")
        assert step(image_epoch, todo.end, None) is None


@given(NUMBERS, NUMBERS)
def test_a_migration_that_was_begun_is_undone_from_as_far_as_it_may_have_come(held: int, begun: int) -> None:
    if begun > held:
        assert step(held, held, begun) == Step("backward", begun, held)


def test_a_program_that_is_too_large_to_be_kept_is_not_run(tmp_path: Path, image: Machine) -> None:
    image.write(f"{PROGRAMS}/30-huge", "#!/bin/sh\n" + "#" * epoch.PROGRAM_LIMIT)
    assert image.health().returncode == 3
    assert ran(image) == []
