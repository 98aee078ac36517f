"""Whole images as a stream: the shell's own tools as a baseline, and bmaptool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.slots import Image
from tests.bench.tools.tool import LEVEL, Job, Place, Tool, make, package_version

# The digest is the whole check: of what was downloaded, while the kernel writes it.
_SCRIPT = """\
set -eu -o pipefail
cd "$4"
rm -f pipe sum
mkfifo pipe
sha256sum <pipe >sum &
curl --silent --show-error --fail "$1" | zstd -q -d -c | tee pipe |
    dd of="$2" bs=1M iflag=fullblock $5 conv=notrunc,fsync status=none
wait $!
read -r digest rest <sum
test "$digest" = "$3"
"""


def compressed(image: Image, folder: Path) -> Path:
    """The image as one zstd file, of the level that releasectl uses."""
    return make(
        folder / f"{image.name}-{LEVEL}.zst", ["zstd", "-q", f"-{LEVEL}", "-T0", "-f", str(image.path), "-o", "{}"]
    )


class Baseline(Tool):
    """`curl | zstd -d | tee >(sha256sum) | dd`: the least that a full installation can be."""

    name = "curl | zstd | dd"
    folder = "whole"
    programs = ("bash", "curl", "zstd", "dd")

    def version(self) -> str:
        return f"curl {package_version('curl')}, zstd {package_version('zstd')}"

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            compressed(job.new, folder)

    def steps(self, job: Job, place: Place) -> list[Step]:
        direct = "oflag=direct" if place.slot.startswith("/dev/") else ""
        url = f"{place.url}/{job.new.name}-{LEVEL}.zst"
        return [
            Step("install", ["bash", "-c", _SCRIPT, "bash", url, place.slot, job.new.sha256, str(place.work), direct])
        ]


class Bmaptool(Tool):
    """Writes only the blocks that are not holes in the image file, and checks a digest of each range."""

    name = "bmaptool"
    folder = "whole"
    programs = ("bmaptool", "zstd")

    def version(self) -> str:
        return package_version("bmap-tools")

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            compressed(job.new, folder)
            make(folder / f"{job.new.name}.bmap", ["bmaptool", "create", "-o", "{}", str(job.new.path)])

    def steps(self, job: Job, place: Place) -> list[Step]:
        url = f"{place.url}/{job.new.name}"
        return [
            Step("install", ["bmaptool", "--quiet", "copy", "--bmap", f"{url}.bmap", f"{url}-{LEVEL}.zst", place.slot])
        ]
