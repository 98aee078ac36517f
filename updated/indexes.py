"""The chunk indexes that a node keeps: those of the release that runs, and of the one that was installed last.

Of a new index only the pages are fetched that no index kept here has. Every page is checked whenever it is read; a
damaged one costs a download and nothing more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from bootctl import durable
from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import MAX_ROOT_LENGTH, MAX_WHOLE_INDEX, IndexRoot, PageEntry, parse_page
from updated.core.release import Blob, Component
from updated.ports import Source
from updated.record import storage_error
from updated.stored import StoredIndex

# Pages that are this close to each other are fetched by one request: an answer has a header of some hundred bytes.
GAP_LENGTH = 1024
MOST_PER_REQUEST = 256 * 1024


def read_signed(source: Source, part: Blob, what: str, most: int) -> bytes:
    """The file `part`, of at most `most` bytes; from another place when one gives something else.

    Raises `UpdatedError`: "wrong-digest", and those of `Source`.
    """
    name = f"blobs/{part.sha256}"
    while True:
        data = source.read(name, min(part.length, most))
        if hashlib.sha256(data).hexdigest() == part.sha256:
            return data
        if not source.blame(name):
            raise UpdatedError(
                "wrong-digest", f"{what}, {name}", "differs from its signed digest",
                "It is not used. If it stays so, the mirror is damaged: the publisher must mend it.",
            )


class Indexes:
    """Indexes by the digest of their root: from `folder`, or else from `source`, and then kept in `folder`.

    Attribute: `downloaded`, the bytes that `source` gave.
    """

    def __init__(self, source: Source, folder: str, connections: int = 1) -> None:
        self._source = source
        self._folder = folder
        self._connections = connections
        self.downloaded = 0

    def read(self, component: Component, base: Component | None = None, *, version: str = "") -> StoredIndex:
        """The index of `component`; as the difference to that of `base`, when that one is kept and a patch has it.

        `version` is that of the release, for errors.

        Raises `UpdatedError`: "wrong-digest", "index-invalid", "disk-full", "disk-error", and those of `Source`.
        """
        try:
            os.makedirs(self._folder, exist_ok=True)
            if base is not None:
                self._take_patched(component, base)
            what = f"the chunk index of {version}" if version else "the chunk index"
            root = self._root(component, what)
            if (root.image_size, root.blob_length) != (component.size, component.blob.length):
                raise UpdatedError(
                    "index-invalid", what, "does not belong to the image of its release manifest",
                    "The publisher must publish the release again.",
                )
            self._complete(root, what)
            return StoredIndex(root, self._path(root.pages_sha256))
        except OSError as error:
            raise storage_error(f"the folder {self._folder}", error) from None

    def keep(self, components: Collection[Component]) -> None:
        """Removes all but the indexes of `components`."""
        kept = {component.index.sha256 for component in components}
        with contextlib.suppress(OSError):
            kept |= {root.pages_sha256 for name in list(kept) if (root := self._kept_root(name)) is not None}
            for name in os.listdir(self._folder):
                if name not in kept:
                    durable.remove(self._path(name))

    def _take_patched(self, component: Component, base: Component) -> None:
        """Keeps the index of `component` if it can be made from that of `base`; nothing is lost when it can't."""
        info = component.patch_from(base)
        old = self._kept_root(base.index.sha256)
        if info is None or info.index is None or old is None or self._kept_root(component.index.sha256) is not None:
            return
        with contextlib.suppress(UpdatedError, OSError, prefixed.DamagedError):
            with open(self._path(old.pages_sha256), "rb") as file:
                before = old.format() + file.read(MAX_WHOLE_INDEX)
            data = read_signed(self._source, info.index, "the difference of the chunk index", MAX_WHOLE_INDEX)
            self.downloaded += len(data)
            length = min(MAX_WHOLE_INDEX, max(0, prefixed.promised(data)))
            whole = prefixed.decompress(prefixed.decompressor(before, length), data, length)
            packed, pages = whole[: component.index.length], whole[component.index.length :]
            if hashlib.sha256(packed).hexdigest() == component.index.sha256:
                durable.write_file(self._path(IndexRoot.parse(packed).pages_sha256), pages)
                durable.write_file(self._path(component.index.sha256), packed)

    def _root(self, component: Component, what: str) -> IndexRoot:
        name = component.index.sha256
        kept = self._kept_root(name)
        if kept is not None:
            return kept
        data = read_signed(self._source, component.index, what, MAX_ROOT_LENGTH)
        self.downloaded += len(data)
        root = IndexRoot.parse(data)
        durable.write_file(self._path(name), data)
        return root

    def _kept_root(self, name: str) -> IndexRoot | None:
        """The kept root of this digest, if it is here and whole."""
        try:
            with open(self._path(name), "rb") as file:
                data = file.read(MAX_ROOT_LENGTH + 1)
            return IndexRoot.parse(data) if hashlib.sha256(data).hexdigest() == name else None
        except (OSError, UpdatedError):
            return None

    def _complete(self, root: IndexRoot, what: str) -> None:
        """Makes the file with the pages of `root`, from what is kept and from the source."""
        final = self._path(root.pages_sha256)
        if os.path.exists(final) and all(_page(final, entry.start, entry) for entry in root.entries):
            return
        kept = self._kept_pages()
        missing = []
        temporary = f"{final}.unfinished"
        with open(temporary, "wb+", buffering=0) as file:
            for entry in root.entries:
                data = _page(*kept[entry.sha256], entry) if entry.sha256 in kept else None
                if data is None:
                    missing.append(entry)
                else:
                    os.pwrite(file.fileno(), data, entry.start)
            try:
                self._fetch(root, missing, file.fileno())
            except UpdatedError as error:
                if error.code != "wrong-digest":
                    raise
                page = f"a page of {what}, blobs/{root.pages_sha256}"
                raise UpdatedError(error.code, page, error.cause, error.mend) from None
            durable.sync_fd(file.fileno())
        durable.rename(temporary, final)

    def _fetch(self, root: IndexRoot, missing: list[PageEntry], fd: int) -> None:
        runs = [(run[0].start, run[-1].start + run[-1].length) for run in _runs(missing)]
        try:
            with ThreadPoolExecutor(self._connections, thread_name_prefix="index") as pool:
                self.downloaded += sum(pool.map(lambda run: self._fetch_run(root, run, fd), runs))
        except UpdatedError as error:
            if error.code != "no-ranges":
                raise
            self.downloaded += self._fetch_run(root, (0, root.pages_length), fd)

    def _fetch_run(self, root: IndexRoot, run: tuple[int, int], fd: int) -> int:
        """Writes the pages in the bytes [start, end) of `run` to `fd`, and checks them; returns how many bytes came."""
        start, end = run
        name = f"blobs/{root.pages_sha256}"
        entries = [entry for entry in root.entries if start <= entry.start < end]
        length = 0
        while True:
            position = start
            for piece in self._source.stream(name, start, end - start):
                os.pwrite(fd, piece, position)
                position += len(piece)
            length += position - start
            try:
                for entry in entries:
                    parse_page(entry, os.pread(fd, entry.length, entry.start))
                return length
            except UpdatedError as error:
                if error.code != "wrong-digest" or not self._source.blame(name, entry.start):
                    raise

    def _kept_pages(self) -> dict[bytes, tuple[str, int]]:
        """Where the pages of the kept indexes lie, by digest: file and first byte."""
        places: dict[bytes, tuple[str, int]] = {}
        for name in os.listdir(self._folder):
            root = self._kept_root(name)
            if root is not None and os.path.exists(path := self._path(root.pages_sha256)):
                places.update((entry.sha256, (path, entry.start)) for entry in root.entries)
        return places

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _page(path: str, start: int, entry: PageEntry) -> bytes | None:
    """The page of `entry` at byte `start` of a file; None when it is not there whole."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), entry.length, start)
    except OSError:
        return None
    return data if hashlib.sha256(data).digest() == entry.sha256 else None


def _runs(entries: list[PageEntry]) -> list[list[PageEntry]]:
    """Pages grouped for requests: neighbours together, up to a length that several connections can share."""
    runs: list[list[PageEntry]] = []
    for entry in entries:
        if runs:
            begin, end = runs[-1][0].start, runs[-1][-1].start + runs[-1][-1].length
            if entry.start - end <= GAP_LENGTH and entry.start + entry.length - begin <= MOST_PER_REQUEST:
                runs[-1].append(entry)
                continue
        runs.append([entry])
    return runs
