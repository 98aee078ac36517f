"""casync: chunks by content, each in a file of its own at the server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.tools.tool import PUBLISH_SECONDS, Job, Place, Tool, package_version, sync


class Casync(Tool):
    """`casync extract` of a block index, from a store at the web server; the old slot is a seed."""

    programs = ("casync",)
    delta = True
    resumes = True

    def __init__(self, chunk_size: int) -> None:
        self.name = f"casync {chunk_size >> 10} KiB"
        self.folder = f"casync-{chunk_size}"
        self._chunk_size = chunk_size

    def version(self) -> str:
        return package_version("casync")

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            index = folder / f"{job.new.name}.caibx"
            if index.exists():
                continue
            print(f"    makes {index.name} of {self.name}", flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / "partial.caibx"
            # A store for each image: nobody keeps the chunks of one image in another's way.
            store = folder / f"{job.new.name}.castr"
            shutil.rmtree(store, ignore_errors=True)
            subprocess.run(
                [
                    "casync", "make", f"--chunk-size={self._chunk_size}", "--digest=sha256", f"--store={store}",
                    str(partial), str(job.new.path),
                ],
                check=True, stdout=subprocess.DEVNULL, timeout=PUBLISH_SECONDS,
            )  # fmt: skip
            partial.replace(index)

    def steps(self, job: Job, place: Place) -> list[Step]:
        seeds = [f"--seed={place.running}"] if job.old is not None else []
        url = f"{place.url}/{job.new.name}"
        extract = [
            "casync", "extract", f"--store={url}.castr", *seeds, f"--seed-output={'yes' if job.again else 'no'}",
            f"{url}.caibx", place.slot,
        ]  # fmt: skip
        environment = {"TMPDIR": str(place.work), "HOME": str(place.work)}
        return [Step("install", extract, environment=environment), sync(place)]
