"""What was wanted, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.results import RANGES, SEALED, Results, Summary
from tests.bench.suites import SLOW

BASELINE = "curl | zstd | dd"
CASYNC_16, CASYNC_64 = "casync 16 KiB", "casync 64 KiB"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table. `reached` is None when nothing was measured for it."""

    what: str
    wanted: str
    found: str
    reached: bool | None


def goals(results: Results, suite: str) -> list[Goal]:
    """All goals for which something was measured, in the order of the document."""
    return [
        *_full(results, suite), *_bytes(results, suite), *_time(results, suite), *_slow(results, suite),
        *_nothing_changed(results, suite), *_interrupted(results, suite), *_written(results, suite),
        *_memory(results),
    ]  # fmt: skip


def _ratio(what: str, own: float | None, peer: float | None, most: float, of: str) -> Iterator[Goal]:
    if own is not None and peer:
        yield Goal(what, f"at most {most:g} × {of}", f"{own / peer:.2f} ×", own / peer <= most)


def _value(each: Summary | None, measure: Callable[[Summary], float]) -> float | None:
    return None if each is None else measure(each)


def _seconds(each: Summary) -> float:
    return each.seconds


def _downloaded(each: Summary) -> float:
    return each.downloaded


def _full(results: Results, suite: str) -> Iterator[Goal]:
    def seconds(tool: str) -> float | None:
        return _value(results.summary(suite, "full", tool), _seconds)

    own, sealed = _value(results.summary(suite, "full"), _seconds), seconds(SEALED)
    yield from _ratio("full installation, time", own, seconds(BASELINE), 0.55, BASELINE)
    yield from _ratio("full installation, time", own, seconds("SWUpdate"), 0.7, "SWUpdate")
    yield from _ratio("full installation with seal, time", sealed, seconds("RAUC"), 0.5, "RAUC")
    peers = results.peers(suite, "full")
    if peers:
        best = min(peers, key=_seconds)
        yield from _ratio("full installation with seal, time", sealed, best.seconds, 1.0, f"the fastest, {best.tool}")


def _bytes(results: Results, suite: str) -> Iterator[Goal]:
    for image, title in (("patch", "security patch, bytes"), ("upgrade", "upgrade, bytes")):
        scenario = f"delta-{image}"
        own = _value(results.summary(suite, scenario), _downloaded)
        casync = _value(results.summary(suite, scenario, CASYNC_16), _downloaded)
        whole = results.computed.get(suite, {}).get(image, {}).get("xdelta3")
        peers = results.peers(suite, scenario)
        best = min(peers, key=_downloaded) if peers else None
        if image == "patch":
            yield from _ratio(title, own, casync, 0.45, CASYNC_16)
            yield from _ratio(title, own, whole, 0.9, "xdelta3 of the whole images")
        else:
            yield from _ratio(title, own, _value(best, _downloaded), 0.4, f"the best, {best.tool if best else ''}")
            yield from _ratio(title, own, whole, 0.8, "xdelta3 of the whole images")
        ranges = _value(results.summary(suite, scenario, RANGES), _downloaded)
        if best is not None:
            yield from _ratio(f"{title}, without a patch", ranges, best.downloaded, 0.85, f"the best, {best.tool}")


def _time(results: Results, suite: str) -> Iterator[Goal]:
    baseline = _value(results.summary(suite, "full", BASELINE), _seconds)
    for image, title in (("patch", "security patch, time"), ("upgrade", "upgrade, time")):
        own = _value(results.summary(suite, f"delta-{image}"), _seconds)
        for tool in (CASYNC_16, CASYNC_64, "SWUpdate delta"):
            peer = _value(results.summary(suite, f"delta-{image}", tool), _seconds)
            yield from _ratio(title, own, peer, 0.15, tool)
        yield from _ratio(title, own, baseline, 0.6, f"{BASELINE}, full")


def _slow(results: Results, suite: str) -> Iterator[Goal]:
    for scenario, title in (("slow-patch", "security patch"), ("slow-upgrade", "upgrade")):
        own = results.summary(suite, scenario)
        if own is not None:
            ideal = own.downloaded / SLOW
            yield from _ratio(f"{title} at 20 Mbit/s, time", own.seconds, ideal, 1.2, "bytes / rate")


def _nothing_changed(results: Results, suite: str) -> Iterator[Goal]:
    own = results.summary(suite, "same")
    if own is not None:
        written = own.written or 0.0
        found = f"{own.downloaded / 1024:.0f} KiB, {written / 1e6:.1f} MB written"
        reached = own.downloaded <= 64 * 1024 and written == 0
        yield Goal("nothing changed", "at most 64 KiB, nothing written", found, reached)


def _interrupted(results: Results, suite: str) -> Iterator[Goal]:
    own, whole = results.summary(suite, "resume"), results.summary(suite, "full")
    if own is not None and whole is not None:
        share = own.downloaded / whole.downloaded
        yield Goal("killed at half, begun again, bytes", "at most 55 % of all", f"{share:.0%}", share <= 0.55)


def _written(results: Results, suite: str) -> Iterator[Goal]:
    for image in ("patch", "upgrade"):
        own = results.summary(suite, f"over-{image}")
        differs = results.computed.get(suite, {}).get(image, {}).get("differs")
        if own is not None and own.written is not None:
            what = f"{image} over the older release, written"
            yield from _ratio(what, own.written, differs, 1.05, "the blocks that differ")


def _memory(results: Results) -> Iterator[Goal]:
    found = [each.memory for scenario in results.scenarios("memory") if (each := results.summary("memory", scenario))]
    if found:
        words = f"{min(found) / MIB:.0f} to {max(found) / MIB:.0f} MiB"
        yield Goal("memory of fetch, images of 1 to 8 GiB", "at most 96 MiB", words, max(found) <= 96 * MIB)
