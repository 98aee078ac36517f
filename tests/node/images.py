"""Small slot images for the tests: an os-release, some data, and health checks, as erofs."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

EPOCH = 1_700_000_000
IDENTIFIER = "5f0fa2a4-2b3c-4d6e-8f10-0123456789ab"


def make_image(folder: Path, version: str, *, sick: bool = False, size: int = 3_000_000, seed: int = 1) -> Path:
    """An image of `version`; its required check fails when it is `sick`. Most of its data is that of other versions."""
    tree = folder / f"tree-{version}"
    checks = tree / "usr/lib/updated/health.d/required.d"
    checks.mkdir(parents=True)
    (tree / "usr/lib/os-release").write_text(f"ID=test\nIMAGE_VERSION={version}\n")
    (tree / "etc").mkdir()
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "usr/lib/data").write_bytes(random.Random(seed).randbytes(size))
    (tree / "usr/lib/release").write_bytes(random.Random(version).randbytes(size // 4))
    passes = 'type = "disk-space"\npath = "/"\nfree_bytes = 1\n'
    fails = 'type = "mount"\npath = "/nowhere"\nretries = 0\n'
    (checks / "content.toml").write_text(fails if sick else passes)
    image = folder / f"{version}.erofs"
    subprocess.run(
        ["mkfs.erofs", "--quiet", f"-T{EPOCH}", f"-U{IDENTIFIER}", "--all-root", str(image), str(tree)],
        check=True, capture_output=True,
    )
    return image
