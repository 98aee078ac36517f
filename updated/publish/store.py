"""Puts the files of a component into the folder `blobs/` of a repository: blob, index, patches from older releases."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedWriter
from typing import Final

from bootctl import durable
from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import MAX_WHOLE_INDEX
from updated.core.release import Blob, Component, PatchInfo
from updated.publish import blob, patch
from updated.publish.known import known, stored_index, whole_index
from updated.publish.repository import UNFINISHED
from updated.publish.whole import Fault, faults

# A patch that saves less than this share of what a node would download of the blob is not worth its place.
_LEAST_SAVING: Final = 0.1
# Faster levels hardly find what is far away in a prefix: of 26 edits they make 280 kB, and this one 3 kB.
_LEAST_PATCH_LEVEL: Final = 15

Progress = Callable[[str, int, int], None]
"""Is told what is being made, how many bytes of it are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A published component of the same kind; `version` is of its release."""

    version: str
    component: Component


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored for a component. `new` bytes of its blob were in no blob before.

    `patches`: their bytes, by the version that they are from. `damaged`: versions that had to have a patch, and whose
    files are damaged.
    """

    component: Component
    new: int
    patches: Mapping[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people: "2147.5 MB image, 494.6 MB blob, 38.1 MB of it new; patch from 1.0.0: 0.9 MB"."""
        component = self.component
        sizes = f"{_megabytes(component.size)} image, {_megabytes(component.blob.length)} blob"
        parts = [f"{sizes}, {_megabytes(self.new)} of it new"]
        parts += [f"patch from {version}: {_megabytes(length)}" for version, length in self.patches.items()]
        parts += [f"no patch from {version}, whose files are damaged" for version in self.damaged]
        return "; ".join(parts)


def _megabytes(length: int) -> str:
    return f"{length / 1e6:.1f} MB" if length >= 50_000 else f"{length} bytes"


class Store:
    """The folder `folder` of a repository, whose files are named by their SHA-256."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def add(
        self, name: str, image: str, size: int, earlier: Sequence[Earlier], published: Iterable[Component], *,
        patches: int, level: int, progress: Progress,
    ) -> Stored:
        """Stores the component `name` with the file `image`, and patches from the last `patches` of `earlier` ones.

        `published` are components with that very image; one whose files are there is used again. Raises `UpdatedError`
        ("bad-image") and OSError.
        """
        same = next((each for each in published if self._holds(each)), None)
        component, new = (same, 0) if same is not None else self._pack(name, image, size, earlier, level, progress)
        made: list[PatchInfo] = []
        lengths: dict[str, int] = {}
        damaged: list[str] = []
        frames: patch.Made = {}
        for base in _bases(earlier, patches, component):
            try:
                info = self._kept_patch(component, base.component) or self._patch(
                    name, base, component, image, level, frames, progress
                )
            except (UpdatedError, FileNotFoundError) as error:
                if isinstance(error, UpdatedError) and error.code == "bad-image":
                    raise
                damaged.append(base.version)
                continue
            if info is not None:
                made.append(info)
                lengths[base.version] = info.table.length + info.blob.length
        return Stored(replace(component, patches=tuple(made)), new, lengths, tuple(damaged))

    def restore(
        self, name: str, image: str, component: Component, earlier: Sequence[Earlier], bases: Iterable[Earlier], *,
        level: int, progress: Progress,
    ) -> list[Fault]:
        """Makes anew what is missing or damaged of the files of `component`, from the file `image`; what that was.

        `earlier` is what was there when the image was stored first; `bases` are what its patches may be from. Raises
        `UpdatedError` ("bad-repository", "bad-image"), when the same bytes can't be made; and OSError.
        """
        found = left = faults(self._folder, component)
        if not found:
            return []
        patches = {part.sha256 for info in component.patches for part in info.parts}
        if any(fault.sha256 not in patches for fault in found):
            self._pack(name, image, component.size, earlier, level, progress, wanted=component)
            left = faults(self._folder, component)
        damaged = {fault.sha256 for fault in left}
        frames: patch.Made = {}
        for base in {each.component.sha256: each for each in bases}.values():
            info = component.patch_from(base.component)
            if info is None or damaged.isdisjoint(part.sha256 for part in info.parts):
                continue
            try:
                self._patch(name, base, component, image, level, frames, progress, wanted=info)
            except (UpdatedError, FileNotFoundError) as error:
                if isinstance(error, UpdatedError) and error.code == "bad-image":
                    raise
                # Else the base is damaged, and so the patch is as it was.
        if damaged and (left := faults(self._folder, component)):
            raise _not_restored(name, left[0])
        return found

    def _has(self, part: Blob) -> bool:
        """Whether the file is there, by its length."""
        try:
            return os.path.getsize(self._path(part.sha256)) == part.length
        except FileNotFoundError:
            return False

    def _holds(self, component: Component) -> bool:
        """Whether index and blob of a component are there."""
        try:
            root = stored_index(self._folder, component).root
        except (UpdatedError, OSError):
            return False
        return self._has(Blob(root.pages_sha256, root.pages_length)) and self._has(component.blob)

    def _pack(
        self, name: str, image: str, size: int, earlier: Sequence[Earlier], level: int, progress: Progress, *,
        wanted: Component | None = None,
    ) -> tuple[Component, int]:
        """Stores index and blob of `image`; the component, and how many bytes of the blob are new.

        Where they aren't those of `wanted`, nothing is stored.
        """
        same = known(self._folder, [each.component for each in earlier])
        with self._unfinished() as file, open(image, "rb") as source:
            built = blob.build(
                source, file, known=same, level=level, progress=lambda done: progress(name, done, size)
            )
            if wanted is not None and replace(wanted, patches=()) != built.component:
                return wanted, 0
            self._finish(file, built.component.blob)
        self._write(built.root)
        self._write(built.pages)
        return built.component, built.new

    def _kept_patch(self, component: Component, base: Component) -> PatchInfo | None:
        """The patch that `component`, stored for another release, has from `base` already."""
        info = component.patch_from(base)
        if info is None:
            return None
        return info if all(map(self._has, info.parts)) else None

    def _patch(
        self, name: str, base: Earlier, new: Component, image: str, level: int, frames: patch.Made,
        progress: Progress, *, wanted: PatchInfo | None = None,
    ) -> PatchInfo | None:
        """A patch from `base`; None when it is not worth it, or not the one that is `wanted`.

        Raises `UpdatedError` and FileNotFoundError when the files of `base` are damaged; or `image` ("bad-image").
        """
        what = f"{name}, patch from {base.version}"
        old, index = stored_index(self._folder, base.component), stored_index(self._folder, new)
        with self._unfinished() as file, tempfile.TemporaryFile(prefix=UNFINISHED, dir=self._folder) as room:
            hashed = _Hashing(file)
            table, instead_of = patch.make(
                old, self._path(base.component.blob.sha256), index, image, hashed, room=room,
                level=max(level, _LEAST_PATCH_LEVEL), made=frames,
                progress=lambda done, total: progress(what, done, total),
            )  # fmt: skip
            packed = prefixed.compress(table.format(), b"", level)
            stored = Blob(hashed.sha256.hexdigest(), table.length)
            if not table.frames or stored.length + len(packed) > instead_of * (1 - _LEAST_SAVING):
                return None
            difference = self._index_difference(base.component, new)
            info = PatchInfo(
                base.component.sha256, _part(packed), stored, _part(difference) if difference is not None else None
            )
            if wanted not in (None, info):
                return None
            self._finish(file, stored)
        self._write(packed)
        if difference is not None:
            self._write(difference)
        return info

    def _index_difference(self, base: Component, new: Component) -> bytes | None:
        """The whole index of `new`, compressed with that of `base`; None when nodes had no memory for that."""
        before, after = (whole_index(self._folder, component) for component in (base, new))
        if max(len(before), len(after)) > MAX_WHOLE_INDEX:
            return None
        return prefixed.compress(after, before, blob.LEVEL)

    def _write(self, data: bytes) -> None:
        # Also when it is there: it may be damaged.
        durable.write_file(self._path(_part(data).sha256), data)

    @contextmanager
    def _unfinished(self) -> Iterator[BufferedWriter]:
        fd, path = tempfile.mkstemp(prefix=UNFINISHED, dir=self._folder)
        try:
            os.close(fd)
            with open(path, "wb") as file:
                yield file
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _finish(self, file: BufferedWriter, part: Blob) -> None:
        """Gives an unfinished file its name."""
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        durable.sync_fd(file.fileno())
        durable.rename(file.name, self._path(part.sha256))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _part(data: bytes) -> Blob:
    return Blob(hashlib.sha256(data).hexdigest(), len(data))


def _not_restored(name: str, fault: Fault) -> UpdatedError:
    return UpdatedError(
        "bad-repository", f"{name}: blobs/{fault.sha256}",
        f"{fault.cause}, and what is made of the image now has other bytes: by another --level or version of zstd, or "
        "since an older release is damaged itself",
        "Restore the older release first, put the file back from a copy of the repository, or publish the image under "
        "a new version.",
    )  # fmt: skip


def _bases(earlier: Sequence[Earlier], patches: int, new: Component) -> list[Earlier]:
    """The last `patches` of `earlier`, the newest first; each image once, and not that of `new`."""
    images = {new.sha256}
    bases = []
    for base in list(reversed(earlier))[:patches]:
        if base.component.sha256 not in images:
            images.add(base.component.sha256)
            bases.append(base)
    return bases


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: blob.Writable) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self.sha256.update(data)
        self._file.write(data)
