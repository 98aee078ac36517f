"""The machine reboots by itself only so often, whatever asks for it and whatever becomes of the count."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health import reboots, system
from health.reboots import DAY_SECONDS, Ledger, ask, parse, read, refusal, settle, with_reboot, without
from tests.health.conftest import Put

NOW = 1_800_000_000
RELEASES = st.sampled_from(["1.0", "1.1", "slot b"])
REBOOTS = st.lists(st.tuples(RELEASES, st.integers(NOW - 3 * DAY_SECONDS, NOW + 3 * DAY_SECONDS)), max_size=30)


def asks(root: Path, boot: str | None, *, release: str = "1.1", now: int = NOW, **more: bool) -> str | None:
    return ask(str(root), release, boot, now, per_release=3, per_day=5, **more)


def test_the_fourth_reboot_of_one_release_is_refused_and_the_reason_is_told(tmp_path: Path) -> None:
    week = 7 * DAY_SECONDS
    assert [asks(tmp_path, f"boot {number}", now=NOW + number * week) for number in range(3)] == [None] * 3
    refused = asks(tmp_path, "boot 3", now=NOW + 3 * week)
    assert refused == "1.1 has rebooted the machine 3 times already, and 3 are allowed"


def test_the_sixth_reboot_within_a_day_is_refused_whatever_the_release(tmp_path: Path) -> None:
    assert [asks(tmp_path, f"boot {n}", release=f"1.{n}", now=NOW + n * 3600) for n in range(5)] == [None] * 5
    refused = asks(tmp_path, "boot 5", release="1.5", now=NOW + 6 * 3600)
    assert refused is not None
    assert "5 times within a day" in refused
    assert asks(tmp_path, "boot 6", release="1.5", now=NOW + 4 * 3600 + DAY_SECONDS) is None


def test_one_boot_is_counted_once_however_often_it_asks(tmp_path: Path) -> None:
    for _ in range(10):
        assert asks(tmp_path, "the same") is None
    assert read(str(tmp_path)) == Ledger({"1.1": 1}, (NOW,), "the same")


def test_the_count_is_on_disk_before_the_answer_is_given(tmp_path: Path) -> None:
    assert asks(tmp_path, "boot") is None
    assert (tmp_path / reboots.LEDGER.lstrip("/")).read_bytes().startswith(b'{"schema": 1, "releases": {"1.1": 1}')


def test_a_release_that_was_found_good_begins_anew(tmp_path: Path) -> None:
    for number in range(3):
        asks(tmp_path, f"boot {number}", now=NOW - 2 * DAY_SECONDS)
    settle(str(tmp_path), "1.1")
    assert asks(tmp_path, "boot 3") is None


def test_the_way_out_to_a_good_slot_is_counted_and_never_refused(tmp_path: Path) -> None:
    for number in range(9):
        assert asks(tmp_path, f"boot {number}", way_out=True) is None
    found = read(str(tmp_path))
    assert found is not None
    assert found.releases == {"1.1": 9}
    assert asks(tmp_path, "boot 9") is not None


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"schema": 1}',
        '{"schema": 2, "releases": {}, "times": [], "boot_id": null}',
        '{"schema": 1, "releases": {"1": -1}, "times": [], "boot_id": null}',
        "[" * 100000,
    ],
)
@pytest.mark.parametrize("how", ["way_out", "bounded"])
def test_a_damaged_count_allows_nothing_but_the_way_out_and_what_ends_by_itself(
    tmp_path: Path, put: Put, damage: str, how: str
) -> None:
    put(reboots.LEDGER.lstrip("/"), damage)
    assert asks(tmp_path, "boot") == f"{reboots.LEDGER} is damaged"
    assert asks(tmp_path, "boot", way_out=how == "way_out", bounded=how == "bounded") is None
    assert asks(tmp_path, "another boot") is None, "and it was begun anew"


def test_a_good_boot_mends_a_damaged_count(tmp_path: Path, put: Put) -> None:
    put(reboots.LEDGER.lstrip("/"), "{")
    settle(str(tmp_path), "1.1")
    assert read(str(tmp_path)) == Ledger()


def test_without_a_place_for_the_count_nothing_else_reboots_than_what_ends_by_itself(tmp_path: Path, put: Put) -> None:
    put("var/lib/updated/health", "a file where the folder should be")
    assert asks(tmp_path, "boot") == f"{reboots.LEDGER} is damaged"
    assert asks(tmp_path, "boot", way_out=True) is None


def test_where_the_count_can_not_be_written_the_loaders_tries_have_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(system, "store", full)
    assert asks(tmp_path, "boot") == f"{reboots.LEDGER} can't be written (No space left on device)"
    assert asks(tmp_path, "boot", bounded=True) is None


def test_the_announcement_says_what_is_wanted_why_it_is_not_done_and_what_to_do(tmp_path: Path) -> None:
    message = reboots.announce(str(tmp_path), "slot b (1.1)", "asks for a reboot", "too many", rejected=False)
    assert (tmp_path / reboots.MOTD.lstrip("/")).read_text() == message + "\n"
    assert "slot b (1.1) asks for a reboot, and the machine stays up all the same: too many" in message
    assert message.endswith(" Reboot it, or after a repair run systemctl restart updated-health.")


@given(REBOOTS, st.integers(1, 5), st.integers(1, 5))
def test_no_row_of_reboots_exceeds_either_limit(row: list[tuple[str, int]], per_release: int, per_day: int) -> None:
    ledger = Ledger()
    done: list[tuple[str, int]] = []
    for number, (release, now) in enumerate(row):
        if refusal(ledger, release, now, per_release=per_release, per_day=per_day) is None:
            ledger = with_reboot(ledger, release, f"boot {number}", now)
            done.append((release, now))
            assert sum(abs(now - time) < DAY_SECONDS for _, time in done) <= per_day
    for release, _ in row:
        assert sum(name == release for name, _ in done) <= per_release


@given(REBOOTS, RELEASES)
def test_finding_a_release_good_changes_nothing_of_the_others(row: list[tuple[str, int]], good: str) -> None:
    ledger = Ledger()
    for release, now in row:
        ledger = with_reboot(ledger, release, None, now)
    after = without(ledger, good)
    assert good not in after.releases
    assert after.times == ledger.times
    assert {**after.releases, good: 0} == {**ledger.releases, good: 0}


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(data)
