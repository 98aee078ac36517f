"""The streaming installer: finds what the slot and the running system have, downloads the rest, verifies, writes.

Nothing is written before its SHA-256 matched the signed index. What is in place is found by its digest, so that a
restart goes on from what is on the disk. Memory is bounded, whatever the image's size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from updated.chunkstate import LOCAL, MISSING, PATCHED, ChunkStates, compare, resembles
from updated.copying import Copying
from updated.core.errors import UpdatedError
from updated.core.index import Frame
from updated.core.patch import PatchFrame
from updated.core.plan import Outlook, Request, Way, cheapest, cost, gap_length, requests
from updated.download import Download, Patch
from updated.ports import Source
from updated.readback import Progress
from updated.region import Region
from updated.seed import Seed
from updated.slot import Slot
from updated.stored import StoredIndex

# How often what did not verify is fetched again before the installation gives up.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation cost, in bytes.

    Of the image: in all, in place before, copied from the running slot. Downloaded, of the blob and of a patch. To the
    slot: written, skipped since the same bytes were there, and discarded as zeros. `plan` is for people.
    """

    image: int
    in_place: int
    copied: int
    blob: int
    patch: int
    written: int
    skipped: int
    discarded: int
    plan: str


@dataclass(frozen=True, slots=True)
class Line:
    """The way to the repository: connections at a time, seconds until an answer begins, and bytes per second.

    `spent`: bytes that came for this image already, of its index.
    """

    connections: int
    latency: float
    rate: float
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Local:
    """What runs now: its version, its chunks, and a patch from it to the new image, if there is one."""

    version: str
    seed: Seed
    patch: Patch | None


def install(
    source: Source, blob: str, index: StoredIndex, region: Region, line: Line, progress: Progress,
    announce: Callable[[str], None], local: Local | None = None,
) -> Installed:
    """Makes `region` hold the image of `index`; then syncs. `announce` is told the plan, in words.

    Raises `UpdatedError`: "image-too-large", "wrong-digest", "disk-full", "disk-error", and those of `Source`.
    """
    if index.root.image_size > region.size:
        raise UpdatedError(
            "image-too-large", f"the image of {index.root.image_size} bytes",
            f"does not fit into the slot of {region.size} bytes",
            "The publisher must make a smaller image, or the machine needs larger slots.",
        )
    region = region.sized(index.root.image_size)
    return _Installation(source, blob, index, region, line, progress, announce, local).run()


class _Installation:
    def __init__(
        self, source: Source, blob: str, index: StoredIndex, region: Region, line: Line, progress: Progress,
        announce: Callable[[str], None], local: Local | None,
    ) -> None:
        self._source = source
        self._blob = blob
        self._index = index
        self._region = region
        self._line = line
        self._progress = progress
        self._announce = announce
        self._local = local
        self._gap = gap_length(line.latency, line.rate, line.connections)
        self._states = ChunkStates(index)
        self._ranges = True
        self._words = ""
        self._stop = threading.Event()

    def run(self) -> Installed:
        self._region.open_direct()
        seed = self._local.seed if self._local is not None else None
        if seed is not None:
            seed.region.open_direct()
        missing = self._locate(seed)
        here = resembles(self._states, self._region)
        in_place = compare(self._states, self._region, self._progress) if here else 0
        slot = Slot(self._region, compare=here)
        copying = Copying(self._states, slot, seed, self._stop.is_set)
        download = Download(self._source, self._states, slot, self._stop.is_set)
        works, total = self._plan(download, missing - in_place)
        try:
            self._together(copying, download, works, total)
            self._mend(download)
        finally:
            slot.finish()  # what is verified need not come again, whatever ended it
        blob = download.received.get(self._blob, 0)
        return Installed(
            self._index.root.image_size, in_place + copying.in_place, copying.copied, blob, download.total - blob,
            slot.written, slot.skipped, slot.discarded, self._words,
        )  # fmt: skip

    def _locate(self, seed: Seed | None) -> int:
        """Marks what `seed` has; how many bytes of the image it does not have."""
        states = self._states.states
        missing = 0
        for frame in self._index.frames():
            if seed is None:
                missing += frame.length if frame.stored else 0
                continue
            for number, chunk in enumerate(frame.chunks, frame.first):
                if seed.find(chunk.sha256) is not None:
                    states[number] = LOCAL
                else:
                    missing += chunk.length
        return missing

    def _plan(self, download: Download, missing: int) -> tuple[Iterator[Callable[[], None]], int]:
        """The works of the cheapest way to get `missing` bytes of the image, and how many bytes they receive."""
        ranges = cost(self._blob_requests())
        ways = [Way("ranges" if ranges.length < self._index.root.blob_length else "full", ranges)]
        patch = self._local.patch if self._local is not None else None
        if patch is not None and self._cover(patch):
            ways.append(Way("patch", cost(self._patch_requests(patch)) + cost(self._blob_requests())))
        way = cheapest(ways, self._line.latency, self._line.rate)
        if way.kind != "patch":
            self._states.replace(PATCHED, MISSING)
            patch = None
        root = self._index.root
        base = self._local.version if self._local is not None else ""
        download_length = way.cost.length + self._line.spent
        self._words = str(
            Outlook(way.kind, base, root.image_size, root.image_size - missing, download_length, root.blob_length)
        )
        self._announce(self._words)
        return self._works(download, patch), way.cost.length

    def _works(self, download: Download, patch: Patch | None) -> Iterator[Callable[[], None]]:
        if patch is not None:
            for part in self._patch_requests(patch):
                yield download.patch(patch, part)
        for request in self._blob_requests():
            yield download.blob(self._blob, request)

    def _cover(self, patch: Patch) -> bool:
        """Marks the missing chunks that `patch` has; whether there are any."""
        states = self._states.states
        for frame in patch.table.frames:
            for first, count in frame.runs:
                for number in range(first, first + count):
                    if states[number] == MISSING:
                        states[number] = PATCHED
        return self._states.any(PATCHED)

    def _patch_requests(self, patch: Patch) -> Iterator[Request[PatchFrame]]:
        states = self._states.states

        def wanted(frame: PatchFrame) -> bool:
            return any(states.find(PATCHED, first, first + count) >= 0 for first, count in frame.runs)

        return requests(patch.table.frames, wanted, self._gap)

    def _blob_requests(self) -> Iterator[Request[Frame]]:
        frames = (frame for entry in self._states.pages_with(MISSING) for frame in self._index.page(entry))
        return requests(frames, lambda frame: self._states.has(MISSING, frame), self._gap)

    def _together(self, copying: Copying, download: Download, works: Iterator[Callable[[], None]], total: int) -> None:
        """Downloads while what is here is copied."""

        def copied(done: int, size: int) -> None:
            if download.total >= total:
                self._progress("copy", done, size)

        with ThreadPoolExecutor(1, thread_name_prefix="local") as pool:
            local = pool.submit(self._copy, copying, copied)
            try:
                self._download(download, works, total)
            except BaseException:
                self._stop.set()
                raise
            local.result()

    def _copy(self, copying: Copying, progress: Callable[[int, int], None]) -> None:
        try:
            copying.run(progress)
        except BaseException:
            self._stop.set()
            raise

    def _mend(self, download: Download) -> None:
        """Fetches what did not verify, in the seed or in an answer, from the blob."""
        for _ in range(_ROUNDS):
            self._states.replace(PATCHED, MISSING)
            if not self._states.any(MISSING):
                return
            works = self._works(download, None)
            self._download(download, works, download.total + cost(self._blob_requests()).length)
        if self._states.any(MISSING):
            raise download.fault or UpdatedError("internal", "the installation", "left chunks out", "Report it.")

    def _download(self, download: Download, works: Iterator[Callable[[], None]], total: int) -> None:
        def received() -> None:
            self._progress("download", min(download.total, total), total)

        received()
        try:
            if self._ranges:
                download.run(works, self._line.connections, received)
                return
        except UpdatedError as error:
            if error.code != "no-ranges":
                raise
            self._ranges = False
        self._states.replace(PATCHED, MISSING)
        frames = (frame for entry in self._states.pages_with(MISSING) for frame in self._index.page(entry))
        wanted = (frame for frame in frames if self._states.has(MISSING, frame))
        download.run(iter([download.whole(self._blob, self._index.root.blob_length, wanted)]), 1, received)
