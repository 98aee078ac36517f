"""Bytes that are computed and not measured: for a binary difference, and for RAUC where its kernel is not to be had."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zstandard

from tests.bench import images as real
from tests.bench.slots import Image
from tests.bench.tools.tool import LEVEL, PUBLISH_SECONDS

_BLOCK = 4096
# mksquashfs compresses files in pieces of this size, each for itself: less can't be fetched of a bundle.
_SQUASHFS_BLOCK = 128 * 1024
_HASH = 32


def computed(kind: str) -> dict[str, Any]:
    """For each pair of images, in bytes; kept beside the images, for it takes minutes."""
    kept = real.FOLDER / f"computed-{kind}.json"
    base, *others = [Image.of(recipe.name, real.image(recipe.name, kind)) for recipe in real.RECIPES]
    key = [image.sha256 for image in (base, *others)]
    if kept.exists() and (found := json.loads(kept.read_text()))["images"] == key:
        return dict(found)
    found = {"images": key, "sizes": {image.name: image.size for image in (base, *others)}}
    for image in others:
        print(f"computes sizes for {base.name} to {image.name}", flush=True)
        found[image.name] = {
            "xdelta3": _xdelta3(base, image), "rauc-adaptive": rauc_adaptive(base.path, image.path),
            "differs": differing(base.path, image.path),
        }  # fmt: skip
    kept.write_text(json.dumps(found))
    return found


def _xdelta3(old: Image, new: Image) -> int:
    """The binary difference of the whole images, which needs the whole old image as it was published."""
    with tempfile.TemporaryDirectory(dir=real.FOLDER) as folder:
        target = Path(folder) / "delta"
        # The largest window that it takes, so that it finds what moved far.
        subprocess.run(
            ["xdelta3", "-e", "-9", "-S", "lzma", "-B", str(1 << 31), "-s", str(old.path), str(new.path), str(target)],
            check=True, timeout=PUBLISH_SECONDS,
        )  # fmt: skip
        return target.stat().st_size


def differing(old: Path, new: Path) -> int:
    """The bytes of the blocks of 4 KiB that are others in `new` than in `old`, at the same place."""
    with old.open("rb") as before, new.open("rb") as after:
        different = 0
        while data := after.read(_BLOCK):
            different += len(data) if before.read(len(data)) != data else 0
        return different


def rauc_adaptive(old: Path, new: Path) -> dict[str, int]:
    """What streaming a bundle with `adaptive=block-hash-index` has to read.

    The index (SHA-256 of each block of 4 KiB), and each compressed piece of the bundle that holds a block which is
    neither anywhere in the old image nor earlier in the new one. Not counted: signature, dm-verity's tree, requests.
    """
    known = {digest for digest, _ in _blocks(old)}
    blocks = missing = 0
    pieces: set[int] = set()
    for number, (digest, _) in enumerate(_blocks(new)):
        blocks += 1
        if digest not in known:
            known.add(digest)
            missing += 1
            pieces.add(number * _BLOCK // _SQUASHFS_BLOCK)
    fetched = sum(_compressed(new, sorted(pieces)))
    return {"index": blocks * _HASH, "missing": missing * _BLOCK, "pieces": fetched, "total": blocks * _HASH + fetched}


def _blocks(path: Path) -> Iterator[tuple[bytes, int]]:
    with path.open("rb") as file:
        while data := file.read(_BLOCK):
            yield hashlib.sha256(data).digest(), len(data)


def _compressed(path: Path, pieces: list[int]) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)

    def size(piece: int) -> int:
        data = os.pread(file, _SQUASHFS_BLOCK, piece * _SQUASHFS_BLOCK)
        return min(len(data), len(zstandard.ZstdCompressor(level=LEVEL).compress(data)))

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(size, pieces)
    finally:
        os.close(file)
