"""Probation: a slot that gets worse while it is watched is left; one that does not is confirmed, once, at the end."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.health_settings import HealthSettings
from bootctl.model import BootView, SlotState, confirm
from health import aftermath, probation, system, watch
from health.comparison import Look
from health.judgement import Judgement, Verdict
from health.machine import Machine as Known
from health.machine import open_machine
from health.probation import watch_over, weigh_round
from health.watch import Sample
from tests.health.conftest import (
    EMPTY,
    GOOD,
    GOOD_FIRST,
    REJECTED,
    REPOSITORY,
    TRIAL,
    Disks,
    Machine,
    Put,
    copy_program,
    ends,
)

JUDGEMENTS = st.builds(Judgement, st.sampled_from(get_args(Verdict)), st.none() | st.just("required check web failed"))
TROUBLES = st.lists(st.just("web.service failed"), max_size=2).map(tuple)


# ------------------------------------------------------------------------------------------------------------ the rule


@given(JUDGEMENTS, TROUBLES, st.floats(0, 1000), st.floats(1, 1000))
def test_nothing_in_trouble_is_confirmed_and_nothing_before_its_time(
    judgement: Judgement, troubles: tuple[str, ...], elapsed: float, seconds: float
) -> None:
    ended = weigh_round(judgement, troubles, elapsed, seconds)
    if ended.verdict == "confirmed":
        assert not troubles
        assert elapsed >= seconds
        assert judgement.verdict in ("probation", "confirmed")


@given(JUDGEMENTS, TROUBLES, st.floats(0, 1000), st.floats(1, 1000))
def test_the_watch_ends_when_the_time_is_over_whatever_was_seen(
    judgement: Judgement, troubles: tuple[str, ...], elapsed: float, seconds: float
) -> None:
    ended = weigh_round(judgement, troubles, elapsed, seconds)
    if elapsed >= seconds:
        assert ended.verdict != "probation"


@given(JUDGEMENTS, TROUBLES, st.floats(0, 1000), st.floats(1, 1000))
def test_nothing_is_left_without_a_failed_check_or_a_trouble_and_without_telling_it(
    judgement: Judgement, troubles: tuple[str, ...], elapsed: float, seconds: float
) -> None:
    ended = weigh_round(judgement, troubles, elapsed, seconds)
    if ended.verdict == "rejected":
        assert judgement.verdict == "rejected" or troubles
    if ended.verdict == "rejected" and judgement.verdict != "rejected":
        assert ended.reason is not None
        assert all(trouble in ended.reason for trouble in troubles)


@given(JUDGEMENTS, TROUBLES, st.floats(0, 1000), st.floats(1, 1000))
def test_what_the_checks_decided_stands(
    judgement: Judgement, troubles: tuple[str, ...], elapsed: float, seconds: float
) -> None:
    """Also a person's word: a slot that was confirmed meanwhile is healthy or sick."""
    if judgement.verdict not in ("probation", "confirmed"):
        assert weigh_round(judgement, troubles, elapsed, seconds) == judgement


# ----------------------------------------------------------------------------------------------------------- the watch


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


VIEW = BootView((("a", SlotState(1, 0, True)), ("b", SlotState(2, 2, False))))
GOOD_SO_FAR = Look(VIEW, Judgement("probation"), ())
CALM = Sample()
WORSE = Sample(failed=frozenset({"web.service"}))


@dataclass
class Watched:
    """One probation, with the looks and samples that a test gives it; the last of each is repeated."""

    machine: Known
    time: Time = field(default_factory=Time)
    rounds: int = 0

    def __call__(self, looks: list[Look] | None = None, samples: list[Sample] | None = None, took: float = 0.0) -> Look:
        def taken(values: list[object]) -> object:
            return values.pop(0) if len(values) > 1 else values[0]

        all_looks: list[object] = list(looks or [GOOD_SO_FAR])
        all_samples: list[object] = list(samples or [CALM])

        def see() -> Look:
            self.time.now += took
            found = taken(all_looks)
            assert isinstance(found, Look)
            return found

        def sample() -> Sample:
            found = taken(all_samples)
            assert isinstance(found, Sample)
            return found

        def alive() -> None:
            self.rounds += 1

        return watch_over(
            self.machine, sample=sample, see=see, clock=lambda: self.time.now, sleep=self.time.sleep, alive=alive
        )


@pytest.fixture
def watched(machine: Machine) -> Watched:
    machine.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=300)
    return Watched(open_machine(str(machine.root)))


def test_a_slot_that_stays_well_is_confirmed_when_the_time_is_over(watched: Watched) -> None:
    assert watched().judgement == Judgement("confirmed")
    assert watched.time.slept == [60.0] * 5
    assert watched.rounds == 5


def test_a_round_of_checks_takes_from_the_time_and_the_last_one_is_never_missed(watched: Watched) -> None:
    assert watched(took=40).judgement.verdict == "confirmed"
    assert sum(watched.time.slept) + 40 * watched.rounds >= 300
    assert watched.time.slept == [60.0, 60.0, 60.0]


def test_a_slot_that_gets_worse_is_left_at_once(watched: Watched) -> None:
    ended = watched(samples=[CALM, CALM, WORSE])
    assert ended.judgement == Judgement("rejected", "in probation: web.service failed")
    assert watched.rounds == 2


def test_a_check_that_fails_ends_it_at_once(watched: Watched) -> None:
    failed = replace(GOOD_SO_FAR, judgement=Judgement("rejected", "required check web failed"))
    assert watched(looks=[GOOD_SO_FAR, failed]).judgement == failed.judgement
    assert watched.rounds == 2


def test_where_nothing_else_can_boot_a_slot_that_gets_worse_is_kept_and_not_confirmed(watched: Watched) -> None:
    alone = replace(GOOD_SO_FAR, judgement=Judgement("confirmed"))
    assert watched(looks=[alone], samples=[CALM, WORSE]).judgement.verdict == "no-fallback"


def test_a_person_who_confirms_the_slot_meanwhile_is_obeyed(watched: Watched) -> None:
    by_hand = Look(confirm(VIEW, "b"), Judgement("sick", "required check web failed"), ())
    assert watched(looks=[GOOD_SO_FAR, by_hand], samples=[CALM, CALM, WORSE]).judgement.verdict == "sick"


def test_what_was_in_trouble_on_the_old_slot_does_not_end_it(watched: Watched, put: Put) -> None:
    put(watch.TOLERATED.lstrip("/"), '{"slot": "a", "units": ["web.service"]}')
    assert watched(samples=[CALM, WORSE]).judgement.verdict == "confirmed"


@given(st.lists(st.sampled_from([CALM, WORSE]), min_size=2, max_size=8), st.integers(1, 600), st.integers(1, 600))
def test_any_row_of_looks_ends_in_a_verdict_in_time(samples: list[Sample], seconds: int, interval: int) -> None:
    settings = HealthSettings(probation_seconds=seconds, probation_interval_seconds=interval)
    known = Known("/nonexistent", "b", "1.2.0", "6f2c", None, 0, settings, "")  # type: ignore[arg-type]
    one = Watched(known)
    ended = one(samples=list(samples))
    assert one.time.now - 1000 <= seconds
    needed = -(-seconds // interval)
    seen = [*samples[1:], *[samples[-1]] * needed][:needed]
    worse = WORSE in seen and samples[0] == CALM
    assert ended.judgement.verdict == ("rejected" if worse else "confirmed")


# --------------------------------------------------------------------------------------------- on a real boot reference


@pytest.fixture
def on_trial(machine: Machine) -> Machine:
    machine.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=300)
    return machine


def watch_to_the_end(machine: Machine) -> int:
    """The verb, with a clock that only sleeping moves."""
    time = Time()
    return probation.go_through(open_machine(str(machine.root)), clock=lambda: time.now, sleep=time.sleep)


def test_a_slot_that_passes_is_on_probation_and_not_confirmed(on_trial: Machine) -> None:
    made = on_trial.required(passes=True).health()
    assert (made.returncode, made.stderr) == (0, "")
    assert "slot b (1.2.0) is good so far, and on probation" in made.stdout
    assert on_trial.document["verdict"] == "probation"
    finished, until = (datetime.fromisoformat(on_trial.document[key]) for key in ("finished", "probation_until"))
    assert timedelta(seconds=299) <= until - finished <= timedelta(seconds=301)
    assert on_trial.attributes == (GOOD, TRIAL)
    assert (on_trial.root / aftermath.MARK.lstrip("/")).exists()
    assert not on_trial.motd.exists()


def test_there_is_no_probation_where_nothing_else_can_boot(on_trial: Machine) -> None:
    assert on_trial.set(EMPTY, TRIAL).required(passes=True).health().returncode == 0
    assert on_trial.attributes == (EMPTY, GOOD_FIRST)


def test_a_slot_that_fails_gets_none(on_trial: Machine) -> None:
    assert on_trial.required(passes=False).health().returncode == 3
    assert on_trial.attributes == (GOOD, REJECTED)
    assert not (on_trial.root / aftermath.MARK.lstrip("/")).exists()


def test_at_the_end_the_slot_is_confirmed_and_no_second_time(on_trial: Machine) -> None:
    assert on_trial.required(passes=True).health().returncode == 0
    assert watch_to_the_end(on_trial) == 0
    assert on_trial.attributes == (GOOD, GOOD_FIRST)
    assert on_trial.document["verdict"] == "confirmed"
    assert not (on_trial.root / aftermath.MARK.lstrip("/")).exists()
    before = on_trial.disk.read_bytes(), on_trial.verdict_file.read_bytes()
    assert watch_to_the_end(on_trial) == 0
    assert (on_trial.disk.read_bytes(), on_trial.verdict_file.read_bytes()) == before


def test_a_failure_in_probation_rejects_the_slot_and_wants_the_reboot(on_trial: Machine) -> None:
    assert on_trial.required(passes=True).health().returncode == 0
    on_trial.required(passes=False)
    assert watch_to_the_end(on_trial) == 3
    assert on_trial.attributes == (GOOD, REJECTED)
    rejected = json.loads((on_trial.root / system.REJECTION.lstrip("/")).read_text())
    assert rejected["reason"].startswith("required check it failed")


def test_what_failed_before_the_update_as_well_does_not_end_it(on_trial: Machine) -> None:
    on_trial.came_to(it="fail")
    assert on_trial.required(passes=False).health().returncode == 0
    assert watch_to_the_end(on_trial) == 0
    assert on_trial.attributes == (GOOD, GOOD_FIRST)
    assert on_trial.document["baseline"]["version"] == "1.1.0"


@pytest.mark.parametrize("passes", [True, False])
def test_the_baseline_is_spent_when_the_probation_ends_and_not_before(on_trial: Machine, passes: bool) -> None:
    on_trial.came_to(it="pass")
    assert on_trial.required(passes=True).health().returncode == 0
    assert on_trial.baseline_file.exists()
    on_trial.required(passes)
    watch_to_the_end(on_trial)
    assert not on_trial.baseline_file.exists()


def test_the_next_boot_is_judged_from_the_start(on_trial: Machine) -> None:
    assert on_trial.required(passes=True).health().returncode == 0
    on_trial.write("proc/sys/kernel/random/boot_id", "another\n")
    made = on_trial.health(verb="probation")
    assert (made.returncode, made.stdout) == (0, "slot b is not in probation\n")
    assert on_trial.attributes == (GOOD, TRIAL)
    assert on_trial.required(passes=False).health().returncode == 3


def test_a_slot_that_was_never_judged_in_this_boot_is_not_watched(on_trial: Machine) -> None:
    assert on_trial.health(verb="probation").stdout == "slot b is not in probation\n"
    assert on_trial.attributes == (GOOD, TRIAL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_that_is_interrupted_confirms_nothing(
    on_trial: Machine, put: Put, disks: Disks, number: signal.Signals
) -> None:
    on_trial.configure('[disk]\nimage = "/disk.img"\n', probation_seconds=1)
    assert on_trial.health().returncode == 0
    copy_program("/bin/sh", on_trial.root)
    for fifo in ("started", "never"):
        os.mkfifo(on_trial.root / fifo)
    put("etc/updated/health.d/required.d/it", "#!/bin/sh\necho $$ >/started\nread x </never\n", mode=0o755)
    command = on_trial.command(verb="probation")
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        pid = int((on_trial.root / "started").read_text())
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in told
    assert ends(pid)
    assert on_trial.attributes == (GOOD, TRIAL)
