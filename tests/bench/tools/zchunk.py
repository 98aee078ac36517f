"""zchunk's own tools: the new file is downloaded beside the old one, then unpacked into the slot."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.slots import Image
from tests.bench.tools.tool import Job, Place, Tool, make, package_version

OLD = "old.zck"


def zchunk_file(image: Image, folder: Path) -> Path:
    """The image as a zchunk file, with what SWUpdate needs in its header. `zck` has no option for its level."""
    return make(
        folder / f"{image.name}.zck", ["zck", "-u", "--chunk-hash-type", "sha256", "-o", "{}", str(image.path)]
    )


class Zchunk(Tool):
    """`zckdl`, then `unzck`. The machine keeps the compressed image of what it runs, and room for another one."""

    name = "zchunk"
    folder = "zchunk"
    programs = ("zck", "zckdl", "unzck", "dd")
    delta = True
    resumes = True

    def version(self) -> str:
        return package_version("zchunk")

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            zchunk_file(job.new, folder)
            if job.old is not None:
                zchunk_file(job.old, folder)
        self._folder = folder

    def prepare(self, job: Job, place: Place) -> None:
        if job.old is not None:
            shutil.copy(zchunk_file(job.old, self._folder), place.work / OLD)

    def steps(self, job: Job, place: Place) -> list[Step]:
        name = f"{job.new.name}.zck"
        source = ["-s", OLD] if job.old is not None else []
        direct = "oflag=direct" if place.slot.startswith("/dev/") else ""
        unpack = f'unzck -c "$1" | dd of="$2" bs=1M iflag=fullblock {direct} conv=notrunc,fsync status=none'
        return [
            Step("download", ["zckdl", "-q", *source, f"{place.url}/{name}"], folder=str(place.work)),
            Step("write", ["bash", "-c", f"set -eu -o pipefail; {unpack}", "bash", name, place.slot],
                 folder=str(place.work)),
        ]  # fmt: skip
