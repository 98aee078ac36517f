"""A repository that lies in several places: the first is used until it failed too often, then the next."""

from __future__ import annotations

import dataclasses
import functools
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from updated.core.errors import UpdatedError
from updated.http import HttpSettings, open_source
from updated.ports import Source
from updated.throttle import Throttle

MAX_FAILURES = 10
# With another place to go to, long pauses only make a person wait: 10 attempts take half a minute.
LONGEST_PAUSE = 4.0
# Files whose absence is an answer: that there is no newer root.
_OPTIONAL = re.compile(r"metadata/\d+\.root\.json")
# Of several errors, the one that says most about the file; a fault of one server hides no answer of another.
_TELLING = ("no-ranges", "not-found")

MayRetry = Callable[[str], bool]
Opener = Callable[[MayRetry], Source]


def open_mirrors(urls: Sequence[str], settings: HttpSettings) -> Source:
    """The repository that is at each of `urls`, which are as for `open_source`.

    Raises `UpdatedError` ("bad-config").
    """
    if len(urls) == 1:
        return open_source(urls[0], settings)
    throttle = Throttle(
        settings.bandwidth_limit, settings.lowest_rate, settings.window_seconds, changes=settings.bandwidth_changes
    )
    settings = dataclasses.replace(settings, retries=MAX_FAILURES - 1, longest_pause=LONGEST_PAUSE)
    return MirroredSource([functools.partial(open_source, url, settings, throttle) for url in urls])


class _Mirror:
    """One place, and how often it failed in this process."""

    def __init__(self, opener: Opener, may_retry: Callable[[_Mirror, str], bool]) -> None:
        self.failures = 0
        self.source = opener(functools.partial(may_retry, self))


@dataclasses.dataclass(slots=True, eq=False)
class _Delivery:
    """The bytes [start, end) of a file, and where they came from."""

    mirror: _Mirror
    start: int
    end: int


class MirroredSource:
    """Implements `updated.ports.Source` over several sources, in order of preference; usable from several threads.

    Each failed attempt counts against its source, as long as this object lives, and after `MAX_FAILURES` it is used
    no more. What a source raises makes the next one take over for that file, a stream at the byte where it stopped;
    so a source should repeat what may pass by itself. It asks before it does so: each of `openers` makes a source,
    and is given the question, which counts the attempt that failed.

    A file that is nowhere is "not-found" and counts for none; one that is elsewhere counts for those that lack it.
    When no source is left, the last error is raised.
    """

    def __init__(self, openers: Sequence[Opener]) -> None:
        self._lock = threading.Lock()
        self._mirrors = [_Mirror(opener, self._may_retry) for opener in openers]
        self._known_missing: set[str] = set()
        self._deliveries: defaultdict[str, list[_Delivery]] = defaultdict(list)
        self._blamed: Counter[tuple[str, _Mirror]] = Counter()
        self._last = UpdatedError(
            "bad-config", "the repository", "has no address", "Set [repository] url in the configuration."
        )

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        failed: dict[_Mirror, UpdatedError] = {}
        while True:
            mirror = self._choose(name, failed)
            try:
                data = mirror.source.read(name, most)
            except UpdatedError as error:
                self._fail(name, mirror, error)
                failed[mirror] = error
            else:
                self._deliver(name, _Delivery(mirror, 0, len(data)), failed)
                return data

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`."""
        position, end = start, start + length
        failed: dict[_Mirror, UpdatedError] = {}
        while position < end:
            mirror = self._choose(name, failed)
            delivery = _Delivery(mirror, position, position)
            try:
                for piece in _pieces(mirror.source, name, position, end, from_zero=start == 0):
                    if delivery.end == delivery.start:
                        self._deliver(name, delivery, failed)
                    position += len(piece)
                    delivery.end = position
                    yield piece
            except UpdatedError as error:
                self._fail(name, mirror, error)
                failed[mirror] = error

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`: a failure of what delivered the byte, which is the last to be asked for the file then.

        False when no source is left, and when nothing has come of that byte.
        """
        with self._lock:
            for delivery in reversed(self._deliveries[name]):
                if delivery.start <= position < delivery.end:
                    break
            else:
                return False
            self._blamed[name, delivery.mirror] += 1
            self._count(delivery.mirror, UpdatedError(
                "wrong-digest", f"the file {name} at byte {position}", "differs from its signed digest",
                "It is not used. If it stays so, the mirrors are damaged: the publisher must mend them.",
            ))
            return any(mirror.failures < MAX_FAILURES for mirror in self._mirrors)

    def _choose(self, name: str, failed: Mapping[_Mirror, UpdatedError]) -> _Mirror:
        """The source to ask, which is none of `failed`; raises the error to tell when there is none."""
        with self._lock:
            left = [each for each in self._mirrors if each.failures < MAX_FAILURES and each not in failed]
            if left:
                return min(left, key=lambda mirror: self._blamed[name, mirror])
            errors = [*failed.values()] or [self._last]
        raise min(reversed(errors), key=lambda error: [*_TELLING, error.code].index(error.code))

    def _may_retry(self, mirror: _Mirror, name: str) -> bool:
        """Counts a failed attempt, unless it is the last one: that is raised, and counted by who catches it."""
        with self._lock:
            # Else a second mirror that is down would hold up each look at a first one that is well.
            if name in self._known_missing or mirror.failures + 1 >= MAX_FAILURES:
                return False
            mirror.failures += 1
            return True

    def _fail(self, name: str, mirror: _Mirror, error: UpdatedError) -> None:
        with self._lock:
            if error.code != "not-found":
                self._count(mirror, error)
            elif _OPTIONAL.fullmatch(name):
                self._known_missing.add(name)

    def _deliver(self, name: str, delivery: _Delivery, failed: Mapping[_Mirror, UpdatedError]) -> None:
        """Bytes come: whoever said that the file is not there was wrong."""
        with self._lock:
            self._deliveries[name].append(delivery)
            for mirror, error in failed.items():
                if error.code == "not-found":
                    self._count(mirror, error)

    def _count(self, mirror: _Mirror, error: UpdatedError) -> None:
        mirror.failures += 1
        self._last = error


def _pieces(source: Source, name: str, position: int, end: int, *, from_zero: bool) -> Iterator[bytes]:
    """The bytes [position, end); by leaving out those before, when there is no other way and they came once already."""
    try:
        yield from source.stream(name, position, end - position)
    except UpdatedError as error:
        if error.code != "no-ranges" or not from_zero:
            raise
    else:
        return
    skip = position
    for piece in source.stream(name, 0, end):
        if len(piece) > skip:
            yield piece[skip:]
        skip = max(0, skip - len(piece))
