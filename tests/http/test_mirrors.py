"""One place after the other, each with its own patience; and no fault of one place is held against another."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.conftest import DEFAULTS, FakeTime, Opener
from tests.http.server import ScriptedServer, body, ranged, status, truncated
from updated.core.errors import CODES, UpdatedError
from updated.directory import DirectorySource
from updated.http import HttpSettings, HttpSource
from updated.mirrors import LONGEST_PAUSE, MAX_FAILURES, MayRetry, MirroredSource, open_mirrors

DATA = random.Random(1).randbytes(10_000)
ROOT = "metadata/5.root.json"
PATIENT = HttpSettings(retries=MAX_FAILURES - 1, longest_pause=LONGEST_PAUSE)


def fault(code: str) -> UpdatedError:
    return UpdatedError(code, "the mirror", "has a fault", "Mend it.")


class Place:
    """A source that plays faults: each request takes one from `script`, a code or how many bytes come before a break.

    When the script is over, all is well. It repeats nothing by itself, unless it is `patient`.
    """

    def __init__(self, *script: str | int, data: bytes = DATA, patient: bool = False) -> None:
        self.script = list(script)
        self.data = data
        self.requests: list[tuple[str, int]] = []
        self.failures: list[str] = []
        self._patient = patient
        self._may_retry: MayRetry = lambda name: False

    def __call__(self, may_retry: MayRetry) -> Place:
        if self._patient:
            self._may_retry = may_retry
        return self

    def read(self, name: str, most: int) -> bytes:
        return b"".join(self.stream(name, 0, len(self.data)))

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        position = start
        while position < start + length:
            self.requests.append((name, position))
            step = self.script.pop(0) if self.script else length
            if isinstance(step, int):
                end = min(position + step, start + length)
                for at in range(position, end, 1000):
                    yield self.data[at : min(at + 1000, end)]
                position = end
            if position < start + length:
                self.failures.append(step if isinstance(step, str) else "truncated")
                if not self._may_retry(name):
                    raise fault(self.failures[-1])

    def blame(self, name: str, position: int = 0) -> bool:
        raise AssertionError("what came was not from this place alone")


def often(*steps: str | int) -> list[str | int]:
    return list(steps) * 50


def code_of(source: MirroredSource, name: str = "x") -> str:
    with pytest.raises(UpdatedError) as refused:
        source.read(name, len(DATA))
    return refused.value.code


# which place is asked


def test_as_long_as_the_first_place_works_no_other_is_asked() -> None:
    first, second = Place(), Place()
    source = MirroredSource([first, second])
    for _ in range(20):
        assert source.read("x", len(DATA)) == DATA
        assert b"".join(source.stream("x", 10, 500)) == DATA[10:510]
    assert second.requests == []


def test_a_server_that_is_down_is_left_after_ten_attempts_and_for_good(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(status(503)) as first, ScriptedServer(body(DATA)) as second:
        source = MirroredSource([partial(opened, server.url, PATIENT) for server in (first, second)])
        for _ in range(5):
            assert source.read("x", len(DATA)) == DATA
    assert len(first.requests) == MAX_FAILURES
    assert len(second.requests) == 5
    assert fake_time.pauses == [1, 2] + [LONGEST_PAUSE] * 7


def test_failures_count_over_all_files_and_successes_between() -> None:
    first = Place(*often("unreachable", len(DATA)))
    source = MirroredSource([first, Place()])
    for number in range(40):
        assert source.read(f"file {number}", len(DATA)) == DATA
    assert len(first.requests) == 2 * MAX_FAILURES - 1


def test_attempts_that_a_place_repeats_by_itself_count_as_well() -> None:
    first, second = Place(*often("unreachable", len(DATA)), patient=True), Place()
    source = MirroredSource([first, second])
    for _ in range(40):
        assert source.read("x", len(DATA)) == DATA
    assert len(first.failures) == MAX_FAILURES
    assert len(second.requests) == 40 - (MAX_FAILURES - 1)


@pytest.mark.parametrize(
    "code",
    ["unreachable", "http-status", "truncated", "too-slow", "too-long", "bad-redirect", "encoded", "no-ranges",
     "disk-error", "not-found"],
)
def test_every_kind_of_fault_is_one_of_the_place_that_has_it(code: str) -> None:
    assert code in CODES
    first = Place(*[code] * 100)
    source = MirroredSource([first, Place()])
    for number in range(30):
        assert source.read(f"file {number}", len(DATA)) == DATA
    assert len(first.requests) == MAX_FAILURES


def test_when_no_place_is_left_the_last_error_is_told_and_nothing_is_asked_any_more() -> None:
    places = [Place(*["unreachable"] * 100), Place(*["too-slow"] * 100)]
    source = MirroredSource(places)
    assert {code_of(source) for _ in range(30)} == {"too-slow"}
    assert [len(place.requests) for place in places] == [MAX_FAILURES, MAX_FAILURES]


def test_a_repository_without_an_address_is_a_mistake_in_the_configuration() -> None:
    assert code_of(MirroredSource([])) == "bad-config"


# files that are not there


def test_a_file_that_is_missing_comes_from_the_next_place_without_a_pause(opened: Opener, fake_time: FakeTime) -> None:
    with ScriptedServer(status(404)) as first, ScriptedServer(body(DATA)) as second:
        source = MirroredSource([partial(opened, server.url, PATIENT) for server in (first, second)])
        assert source.read("x", len(DATA)) == DATA
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert fake_time.pauses == []


def test_a_missing_file_is_one_failure_however_much_of_it_comes_from_elsewhere() -> None:
    first = Place(*often("not-found"))
    source = MirroredSource([first, Place()])
    for _ in range(30):
        assert b"".join(source.stream("x", 0, len(DATA))) == DATA
    assert len(first.requests) == MAX_FAILURES


def test_that_there_is_no_newer_root_is_told_as_ever_and_is_nobodys_failure() -> None:
    first, second = Place(*["not-found"] * 30), Place(*["not-found"] * 30)
    source = MirroredSource([first, second])
    assert {code_of(source, ROOT) for _ in range(30)} == {"not-found"}
    assert source.read("x", len(DATA)) == DATA
    assert (len(first.requests), len(second.requests)) == (31, 30)


def test_a_second_server_that_is_down_does_not_hold_up_a_first_one_that_knows_no_newer_root(
    opened: Opener, fake_time: FakeTime
) -> None:
    with ScriptedServer(status(404)) as first, ScriptedServer(status(503)) as second:
        source = MirroredSource([partial(opened, server.url, PATIENT) for server in (first, second)])
        assert code_of(source, ROOT) == "not-found"
    assert len(second.requests) == 1
    assert fake_time.pauses == []


def test_a_missing_file_is_told_even_if_another_place_is_down() -> None:
    assert code_of(MirroredSource([Place("not-found"), Place("unreachable")])) == "not-found"
    assert code_of(MirroredSource([Place("unreachable"), Place("not-found")])) == "not-found"


# streams


@given(
    st.lists(st.lists(st.integers(0, 4000) | st.just("unreachable"), max_size=14), min_size=1, max_size=3),
    st.booleans(), st.integers(0, len(DATA)), st.integers(0, len(DATA)),
)
def test_a_stream_is_whole_and_each_byte_comes_once_or_the_last_error_is_told(
    scripts: list[list[int | str]], patient: bool, one: int, other: int
) -> None:
    start, end = sorted((one, other))
    places = [Place(*script, patient=patient) for script in scripts]
    got, told = b"", None
    try:
        for piece in MirroredSource(places).stream("x", start, end - start):
            got += piece
    except UpdatedError as error:
        told = error.code
    if told is None:
        assert got == DATA[start:end]
    else:
        assert DATA[start:end].startswith(got)
        assert places[-1].failures[-1] == told
    asked = [position for place in places for _, position in place.requests]
    assert asked == sorted(asked)
    assert all(len(place.failures) <= (MAX_FAILURES if patient else 1) for place in places)


def test_places_without_ranges_are_all_asked_before_that_is_told() -> None:
    first, second = Place(*["no-ranges"] * 2), Place("no-ranges", "not-found")
    source = MirroredSource([first, second])
    for _ in range(2):
        with pytest.raises(UpdatedError) as refused:
            list(source.stream("x", 100, 100))
        assert refused.value.code == "no-ranges"
    assert (len(first.requests), len(second.requests)) == (2, 2)


def test_a_stream_from_the_beginning_goes_on_at_a_place_without_ranges(opened: Opener) -> None:
    with ScriptedServer(truncated(DATA[:4000], len(DATA)), status(400)) as first, ScriptedServer(body(DATA)) as second:
        source = MirroredSource([partial(opened, server.url, PATIENT) for server in (first, second)])
        assert b"".join(source.stream("x", 0, 9000)) == DATA[:9000]
        with pytest.raises(UpdatedError, match="were asked for"):
            list(source.stream("x", 1, 100))
    assert [request.headers["Range"] for request in second.requests] == [
        "bytes=4000-8999", "bytes=0-8999", "bytes=1-100",
    ]


# wrong bytes


def test_after_wrong_bytes_the_file_comes_from_the_next_place_and_others_still_from_the_first() -> None:
    first, second = Place(), Place()
    source = MirroredSource([first, second])
    source.read("x", len(DATA))
    assert source.blame("x")
    source.read("x", len(DATA))
    list(source.stream("x", 10, 20))
    source.read("y", len(DATA))
    assert first.requests == [("x", 0), ("y", 0)]
    assert second.requests == [("x", 0), ("x", 10)]


def test_wrong_bytes_from_everywhere_are_asked_for_ten_times_of_each_place() -> None:
    places = [Place(), Place()]
    source = MirroredSource(places)
    rounds = 0
    answer = True
    while answer:
        list(source.stream("x", 0, 100))
        answer = source.blame("x", 99)
        rounds += 1
    assert rounds == 2 * MAX_FAILURES
    assert [len(place.requests) for place in places] == [MAX_FAILURES, MAX_FAILURES]
    assert code_of(source) == "wrong-digest"


def test_wrong_bytes_are_held_against_the_place_that_delivered_them() -> None:
    first, second = Place(4000), Place()
    source = MirroredSource([first, second])
    list(source.stream("x", 0, 8000))
    for _ in range(MAX_FAILURES - 1):
        assert source.blame("x", 4000)
    second.requests.clear()
    source.read("y", len(DATA))
    assert first.requests[-1] == ("y", 0), "the first one has its one broken stream only"
    assert source.blame("x", 4000)
    first.script = ["unreachable"]
    assert code_of(source, "y") == "unreachable"
    assert second.requests == [], "ten times blamed, it is used no more"


def test_the_newest_delivery_of_a_byte_is_the_one_that_was_wrong() -> None:
    places = [Place(), Place()]
    source = MirroredSource(places)
    for expected in (0, 1, 0, 1):
        list(source.stream("x", 50, 10))
        assert [len(place.requests) for place in places][expected] > 0
        places[expected].requests.clear()
        assert source.blame("x", 55)


def test_bytes_that_never_came_are_nobodys_failure() -> None:
    source = MirroredSource([Place(), Place()])
    list(source.stream("x", 100, 100))
    assert not source.blame("x", 99)
    assert not source.blame("x", 200)
    assert not source.blame("y")
    assert source.blame("x", 199)


# several threads


def test_four_threads_share_the_count_of_failures() -> None:
    first, second = Place(*often("unreachable", 3, 700, 50), patient=True), Place()
    source = MirroredSource([first, second])
    parts = [(start, 50) for start in range(0, len(DATA), 50)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda part: b"".join(source.stream("x", *part)), parts))
    assert b"".join(got) == DATA
    # Each of the other threads may have been at the first place when its last attempt failed.
    assert MAX_FAILURES <= len(first.failures) <= MAX_FAILURES + 3
    assert len(second.requests) >= len(parts) // 2


def test_a_place_that_fails_for_one_thread_is_not_taken_from_another_that_it_serves() -> None:
    go_on = threading.Event()

    class Slow(Place):
        def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
            for piece in super().stream(name, start, length):
                yield piece
                assert go_on.wait(10)

    first, second = Slow(10_000, *["unreachable"] * 100), Place()
    source = MirroredSource([first, second])
    pieces = source.stream("x", 0, len(DATA))
    got = next(pieces)
    for _ in range(20):
        source.read("y", len(DATA))
    go_on.set()
    assert got + b"".join(pieces) == DATA
    assert ("x", 0) not in second.requests


# opening


def test_one_address_is_one_plain_source() -> None:
    assert isinstance(open_mirrors(["/srv/repository"], DEFAULTS), DirectorySource)
    assert isinstance(open_mirrors(["http://127.0.0.1:1/"], DEFAULTS), HttpSource)


def test_servers_and_directories_can_be_mirrors_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    with ScriptedServer(ranged(DATA[:-1]), body(b"", 404)) as server:
        source = open_mirrors([server.url, f"file://{tmp_path}"], HttpSettings(read_timeout=5))
        assert b"".join(source.stream("x", 0, len(DATA))) == DATA
        os.unlink(tmp_path / "x")
        with pytest.raises(UpdatedError) as refused:
            source.read("x", 10)
        assert isinstance(source, MirroredSource)
        for mirror in source._mirrors:
            if isinstance(mirror.source, HttpSource):
                mirror.source.close()
    assert refused.value.code == "not-found"


def test_the_limits_hold_for_all_mirrors_together() -> None:
    source = open_mirrors(["http://127.0.0.1:1/", "http://127.0.0.2:1/"], DEFAULTS)
    assert isinstance(source, MirroredSource)
    sources = [mirror.source for mirror in source._mirrors]
    first, second = [each for each in sources if isinstance(each, HttpSource)]
    assert first._throttle is second._throttle


def test_a_mirror_that_can_not_be_used_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(UpdatedError) as refused:
        open_mirrors(["/srv/repository", "ftp://h/"], DEFAULTS)
    assert refused.value.code == "bad-config"
