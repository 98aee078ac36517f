"""What counts as getting worse: the rules, and the outputs of systemd and of the kernel that they read."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import watch
from health.machine import open_machine
from health.watch import CRASH_LOOP, Sample, parse_oom_kills, parse_services, troubled, troubles
from tests.health.conftest import Machine

UNITS = st.sampled_from(["web.service", "db.service", "job.service"])
SAMPLES = st.builds(
    Sample,
    restarts=st.dictionaries(UNITS, st.integers(0, 9)),
    failed=st.frozensets(UNITS),
    oom_kills=st.none() | st.integers(0, 3),
    oom_victims=st.lists(st.sampled_from(["nginx (process 7)", "etcd (process 9)"]), unique=True).map(tuple),
)

# As systemctl of systemd 252 answers, in its own order of the properties.
SERVICES = """Type=notify
NRestarts=2
Id=web.service
ActiveState=active
Transient=no

Type=oneshot
NRestarts=0
Id=apt-daily.service
ActiveState=failed
Transient=no

Type=simple
NRestarts=5
Id=db.service
ActiveState=failed
Transient=no

Type=simple
NRestarts=0
Id=run-u12.service
ActiveState=failed
Transient=yes
"""

KERNEL_LOG = """\
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
task_memcg=/system.slice/nginx.service,task=nginx,pid=7,uid=33
Out of memory: Killed process 7 (nginx) total-vm:1kB
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,\
oom_memcg=/kubepods.slice/pod1,task_memcg=/kubepods.slice/pod1/c.scope,task=java,pid=8,uid=0
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
oom_memcg=/system.slice/etcd.service,task_memcg=/system.slice/etcd.service,task=etcd,pid=9,uid=0
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
oom_memcg=/system.slice/docker-ab.scope,task_memcg=/system.slice/docker-ab.scope,task=node,pid=10,uid=0
"""


def test_a_service_that_systemd_restarts_again_and_again_is_a_trouble_and_one_restart_is_none() -> None:
    first = Sample(restarts={"web.service": 1})
    assert troubles(first, Sample(restarts={"web.service": 2}), frozenset()) == ()
    looping = Sample(restarts={"web.service": 1 + CRASH_LOOP})
    assert troubles(first, looping, frozenset()) == ("web.service was restarted 3 times",)


def test_restarts_before_the_watch_are_not_counted() -> None:
    assert troubles(Sample(restarts={"web.service": 9}), Sample(restarts={"web.service": 9}), frozenset()) == ()


def test_a_service_that_fails_is_a_trouble_also_when_it_did_at_the_first_look() -> None:
    failed = Sample(failed=frozenset({"db.service"}))
    assert troubles(Sample(), failed, frozenset()) == ("db.service failed",)
    assert troubles(failed, failed, frozenset()) == ("db.service failed",)


def test_what_was_in_trouble_on_the_old_slot_is_not_the_images_fault() -> None:
    worse = Sample(restarts={"web.service": 9}, failed=frozenset({"db.service"}))
    assert troubles(Sample(), worse, frozenset({"web.service", "db.service"})) == ()


def test_where_nobody_knows_of_the_old_slot_the_first_look_is_compared() -> None:
    failed = Sample(failed=frozenset({"db.service"}))
    assert troubles(failed, failed, None) == ()
    assert troubles(Sample(), failed, None) == ("db.service failed",)


def test_a_process_killed_for_memory_is_a_trouble_with_its_name() -> None:
    before = Sample(oom_kills=1, oom_victims=("nginx (process 7)",))
    after = Sample(oom_kills=2, oom_victims=("nginx (process 7)", "etcd (process 9)"))
    assert troubles(before, after, frozenset()) == ("the kernel killed etcd (process 9) for lack of memory",)


def test_a_container_at_its_own_limit_is_none() -> None:
    assert troubles(Sample(oom_kills=0), Sample(oom_kills=1), frozenset()) == ()


def test_without_the_kernels_log_the_count_alone_has_to_do() -> None:
    before, after = Sample(oom_kills=1, oom_victims=None), Sample(oom_kills=3, oom_victims=None)
    assert troubles(before, after, frozenset()) == ("the kernel killed 2 processes for lack of memory",)


def test_jobs_and_transient_units_may_fail() -> None:
    restarts, failed = parse_services(SERVICES)
    assert restarts == {"web.service": 2, "apt-daily.service": 0, "db.service": 5}
    assert failed == {"db.service"}


def test_the_machine_and_its_services_tell_against_the_image_and_containers_do_not() -> None:
    counted = [kill.process for kill in parse_oom_kills(KERNEL_LOG.splitlines()) if kill.tells_against_the_image]
    assert counted == ["nginx (process 7)", "etcd (process 9)"]


def test_the_counter_is_the_kernels_own(machine: Machine) -> None:
    machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 4\ndrop_pagecache 0\n")
    assert watch.look(open_machine(str(machine.root))).oom_kills == 4


def test_this_kernel_has_the_counter() -> None:
    assert watch._oom_counter("/") is not None


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="the log of this kernel can't be read")
def test_the_log_of_this_kernel_can_be_read_without_waiting_for_more() -> None:
    assert watch._kernel_log() is not None


def test_what_is_kept_on_the_old_slot_is_found_on_the_new_one_and_on_no_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_b = open_machine(str(machine.root))
    monkeypatch.setattr(watch, "look", lambda _: Sample(failed=frozenset({"db.service"})))
    watch.keep(replace(on_b, slot="a"))
    assert watch.kept(str(machine.root), "b") == frozenset({"db.service"})
    assert watch.kept(str(machine.root), "a") is None


@pytest.mark.parametrize("damage", [None, "", "{}", '{"slot": "a", "units": [1]}', '{"slot": "a", "units": "x"}', "["])
def test_a_record_that_is_missing_or_damaged_tells_nothing(tmp_path: Path, damage: str | None) -> None:
    file = tmp_path / watch.TOLERATED.lstrip("/")
    if damage is not None:
        file.parent.mkdir(parents=True)
        file.write_text(damage)
    assert watch.kept(str(tmp_path), "b") is None


@given(SAMPLES)
def test_what_stays_as_it_is_is_never_a_trouble_where_the_old_slot_is_not_known(sample: Sample) -> None:
    assert troubles(sample, sample, None) == ()


@given(SAMPLES, SAMPLES)
def test_no_trouble_names_a_service_that_was_in_trouble_before(first: Sample, latest: Sample) -> None:
    found = troubles(first, latest, troubled(first))
    assert not any(line.startswith(unit) for line in found for unit in troubled(first))


@given(st.text(max_size=300))
def test_no_text_breaks_the_readers(text: str) -> None:
    parse_services(text)
    parse_oom_kills(text.splitlines())
