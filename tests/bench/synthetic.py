"""Images that are made from numbers: small ones for a quick run, large ones for memory, and edits of a real one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.bench.slots import Image

MIB = 1 << 20
_PAGE = 4096
_EDIT = 64 * 1024
_INVERTED = bytes(range(255, -1, -1))


def small_images(folder: Path, size: int = 16 * MIB) -> dict[str, Image]:
    """`base`, `patch` and `upgrade` in small: a few parts differ in the second, a third in the last; holes in all."""
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(1)
    parts = [bytearray(MIB // 4) if n % 5 == 0 else bytearray(_pages(source, MIB // 4)) for n in range(4 * size // MIB)]
    images = {"base": _kept("base", folder / "base.img", parts)}
    parts[3][1000:9000] = _pages(source, 8192)[:8000]
    images["patch"] = _kept("patch", folder / "patch.img", parts)
    for number in range(1, len(parts), 3):
        parts[number] = bytearray(_pages(source, MIB // 4))
    images["upgrade"] = _kept("upgrade", folder / "upgrade.img", parts)
    return images


def dense_image(path: Path, size: int, *, data: int) -> Image:
    """An image of `size` bytes, of which the first `data` have content; it compresses to about a quarter of them."""
    if not path.exists():
        source = random.Random(size)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for _ in range(0, data, MIB):
                file.write(_pages(source, MIB))
            file.truncate(size)
        partial.replace(path)
    return Image.of(path.stem, path)


def edited(original: Image, path: Path, *, size: int, changed: int, donor: Path) -> Image:
    """The first `size` bytes of `original`, of which `changed` bytes are replaced by real data, in pieces of 64 KiB."""
    if not path.exists():
        source = random.Random(changed)
        with original.path.open("rb") as file:
            content = bytearray(file.read(size))
        places = source.sample(range(size // _EDIT), changed // _EDIT)
        length = donor.stat().st_size
        with donor.open("rb") as file:
            for place in places:
                file.seek(source.randrange(length // _EDIT // 2) * _EDIT)
                # Not at its old place, and turned over, so that no other chunk of the old image is the same.
                content[place * _EDIT : (place + 1) * _EDIT] = file.read(_EDIT).translate(_INVERTED)
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)
    return Image.of(path.stem, path)


def _pages(source: random.Random, size: int) -> bytes:
    """Pages that are all different, and of which a compressor stores a quarter."""
    return b"".join(4 * source.randbytes(_PAGE // 4) for _ in range(size // _PAGE))


def _kept(name: str, path: Path, parts: list[bytearray]) -> Image:
    if not path.exists():
        path.write_bytes(b"".join(parts))
    return Image.of(name, path)
