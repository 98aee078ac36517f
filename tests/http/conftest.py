from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from updated.http import HttpSettings, HttpSource
from updated.mirrors import MayRetry

DEFAULTS = HttpSettings()


class FakeTime:
    """Time that passes only when somebody looks at it or pauses, and pauses that take none and are noted."""

    def __init__(self) -> None:
        self.step = 0.0
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


Opener = Callable[..., HttpSource]


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def opened(fake_time: FakeTime) -> Iterator[Opener]:
    """Opens sources without waiting, and closes them in the end."""
    sources: list[HttpSource] = []

    def opener(url: str, settings: HttpSettings = DEFAULTS, may_retry: MayRetry = lambda name: True) -> HttpSource:
        source = HttpSource(
            url, settings, may_retry=may_retry,
            sleep=fake_time.sleep, monotonic=fake_time.monotonic, random=lambda: 1.0,
        )
        sources.append(source)
        return source

    yield opener
    for source in sources:
        source.close()
