"""A clock that is wrong: expired metadata stays refused, fresh metadata is accepted, and the words are clear."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.node.bench import DONE, FAILED, Bench, bench
from tests.node.images import EPOCH as BUILT
from updated.config import read_settings
from updated.daemon import one_cycle
from updated.engine import Engine
from updated.publish.keys import KeyFolder
from updated.publish.publisher import refresh
from updated.publish.repository import Repository

DAY = 86400
IN_1970 = 5.0
IN_2040 = 2_208_988_800.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        made.machine.write_config(made.machine.config.replace("[updates]\n", '[updates]\nreboot = "sentinel"\n'))
        made.ship()
        yield made


def sign_at(node: Bench, when: float) -> None:
    """The publisher signs snapshot and timestamp as if it were another day; the latter lasts three days."""
    refresh(Repository(str(node.repository)), KeyFolder(str(node.publisher.keys)), now=when)


Cycle = Callable[[float], Callable[[int], str]]


@pytest.fixture
def cycle(node: Bench, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Cycle:
    """A cycle at another time. The children get the time from the daemon, so no other clock is asked."""

    def at(clock: float) -> Callable[[int], str]:
        def run(expected: int) -> str:
            capfd.readouterr()
            status = asyncio.run(one_cycle(Engine(read_settings(str(node.root)), clock=lambda: clock)))
            out, err = capfd.readouterr()
            assert status == expected, out + err
            assert "Traceback" not in out + err + caplog.text
            return out + caplog.text

        return run

    return at


def test_the_image_says_when_it_was_built(node: Bench) -> None:
    assert (node.root / "usr/lib/os-release").stat().st_mtime == BUILT


def test_fresh_metadata_is_accepted_in_1970(node: Bench, cycle: Cycle) -> None:
    assert "1.1.0 is staged and boots next" in cycle(IN_1970)(DONE)
    assert node.active().boots_next == "rootfs-b"


def test_metadata_that_expired_before_the_image_was_built_is_refused_in_1970(node: Bench, cycle: Cycle) -> None:
    sign_at(node, BUILT - 30 * DAY)
    node.refuses(
        "metadata-expired", "the metadata of the role 'timestamp'", "it is 2023-11-14T22:13:20Z by the build time",
        "The publisher must refresh the repository. (The system clock, at 1970-01-01T00:00:05Z, is behind",
        run=cycle(IN_1970),
    )
    node.publisher.refresh()
    assert "is staged" in cycle(IN_1970)(DONE)


def test_metadata_that_expired_since_the_last_look_is_refused_in_1970(node: Bench, cycle: Cycle) -> None:
    cycle(time.time())(DONE)
    node.ship("1.2.0")
    sign_at(node, time.time() - 30 * DAY)
    before = node.disk_content()
    node.tells(cycle(IN_1970)(FAILED), "metadata-expired", "by the last trusted time", "is behind, and was not used")
    assert node.disk_content() == before


def test_in_2040_all_is_expired_and_the_clock_is_named(node: Bench, cycle: Cycle) -> None:
    node.refuses(
        "metadata-expired", "it is 2040-01-01T00:00:00Z by the system clock", "Check the clock of this machine",
        run=cycle(IN_2040),
    )
    assert "is staged" in cycle(time.time())(DONE)


def test_the_daemon_goes_on_as_soon_as_a_clock_from_2040_is_set_right(node: Bench) -> None:
    clock = IN_2040

    async def live() -> None:
        nonlocal clock
        engine = Engine(read_settings(str(node.root)), clock=lambda: clock)
        async with working(engine) as rest:
            engine.start()
            engine.tick()
            await rest()
            assert node.status()["phase"] == "failed"
            clock = time.time()
            engine.tick()
            await rest()
            assert node.status()["phase"] == "staged"

    asyncio.run(live())
    assert node.active().boots_next == "rootfs-b"


@contextlib.asynccontextmanager
async def working(engine: Engine) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """An engine that does what is decided."""
    work = asyncio.create_task(engine.run())
    try:
        yield engine.rest
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
