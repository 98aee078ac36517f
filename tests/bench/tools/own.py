"""`updated` itself: its two children, one after the other, with the tasks that the daemon would give them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.images import ROOT
from tests.bench.measure import Step, run
from tests.bench.results import RANGES, SEALED
from tests.bench.slots import Image
from tests.bench.tools.tool import Job, Place, Tool
from updated.core.state import Target
from updated.publish.__main__ import main as releasectl
from updated.region import Region
from updated.task import Connection, Task

COMPATIBLE = "bench"
COMPONENT = "rootfs"
# What a machine from the factory runs: no release of the repository.
FACTORY = "0.9.0"
_PUBLISHED = "published"


class Updated(Tool):
    """`updated fetch install`, then `updated seal`, which reads the slot back from the medium."""

    name = SEALED
    folder = "updated"
    delta = True
    resumes = True

    def __init__(self, level: int | None = None) -> None:
        self._level = level
        self._open: list[int] = []

    def version(self) -> str:
        return f"this tree, Python {platform.python_version()}"

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        images = {image.name: image for job in jobs for image in (job.old, job.new) if image is not None}
        self._repository = folder / "repository"
        self._keys = folder / "keys"
        kept = folder / _PUBLISHED
        wanted = {name: images[name].sha256 for name in sorted(images)}
        sources, there = json.loads(kept.read_text()) if kept.exists() else ("", {})
        if sources == _sources() and wanted.items() <= there.items():
            wanted = there  # with images of other scenarios among them, which took their time
        self._versions = {name: f"1.{number}.0" for number, name in enumerate(wanted)}
        if wanted is not there:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._call("init", "--channels", ",".join(wanted))
            for name in wanted:
                self._add(images[name])
            _quietly("export-root", str(self._repository), str(folder / "root.json"))
            kept.write_text(json.dumps([_sources(), wanted]))
        self._call("refresh")
        self._root = (folder / "root.json").read_text()
        self._states = folder / "states"
        shutil.rmtree(self._states, ignore_errors=True)

    def _call(self, verb: str, *options: str) -> None:
        _quietly(verb, str(self._repository), "--keys", str(self._keys), *options)

    def _add(self, image: Image) -> None:
        print(f"    publishes {image.name} with releasectl", flush=True)
        version = self._versions[image.name]
        component = f"{COMPONENT}={image.path}"
        level = [] if self._level is None else ["--level", str(self._level)]
        self._call("add", "--version", version, "--compatible", COMPATIBLE, "--component", component, *level)
        self._call("promote", "--channel", image.name, "--version", version)

    def prepare(self, job: Job, place: Place) -> None:
        """The state of a machine that installed the old image in the same way; a new one for a machine that did not."""
        state = place.work / "fetch"
        if state.exists() or job.old is None:
            return
        kept = self._states / job.old.name
        if not kept.exists():
            kept.mkdir(parents=True)
            earlier = replace(place, slot=place.running, work=kept)
            run([self._step("install", Job(job.old), earlier)])
        shutil.copytree(kept / "fetch", state)
        if job.again:
            run([self._step("install", job, place)])  # what the slot holds was installed by this machine

    def steps(self, job: Job, place: Place) -> list[Step]:
        return [self._step(verb, job, place) for verb in ("install", "seal")]

    def _step(self, verb: str, job: Job, place: Place) -> Step:
        slot = self._file(place.slot, os.O_RDWR if place.slot != place.running else os.O_RDONLY)
        size = os.lseek(slot, 0, os.SEEK_END)
        seeds = {}
        if job.old is not None and verb == "install":
            seeds[COMPONENT] = Region(self._file(place.running, os.O_RDONLY), 0, job.old.size)
        repository = place.url + "/repository/"
        task = Task(
            store=str(place.work / verb.replace("install", "fetch") / "store"),
            export=str(place.work / "fetch/export"),
            root_of_trust=self._root,
            system_time=time.time(),
            built=0,
            channel=job.new.name,
            running=self._versions[job.old.name] if job.old is not None else FACTORY,
            floor=self._versions[job.old.name] if job.old is not None else "",
            compatible=COMPATIBLE,
            any_wave=True,
            sizes={COMPONENT: size},
            connection=Connection(repository) if verb == "install" else None,
            target=Target(self._versions[job.new.name], self._manifest(job.new), "b"),
            regions={COMPONENT: Region(slot, 0, size)},
            seeds=seeds,
            parent=os.getpid(),
        )
        command = [sys.executable, "-m", "updated", *(("fetch", "install") if verb == "install" else ("seal",))]
        fds = [region.fd for regions in (task.regions, task.seeds) for region in regions.values()]
        return Step(verb, command, stdin=task.to_json(), fds=fds)

    def _manifest(self, image: Image) -> str:
        """The digest of the release manifest, which names its file (TUF, consistent snapshots)."""
        (manifest,) = (self._repository / "targets/releases").glob(f"*.{self._versions[image.name]}.json")
        return manifest.name.partition(".")[0]

    def _file(self, path: str, flags: int) -> int:
        file = os.open(path, flags | os.O_CLOEXEC)
        self._open.append(file)
        return file

    def done(self) -> None:
        while self._open:
            os.close(self._open.pop())


class WithoutPatches(Updated):
    """The same repository with the patches taken out: what a node costs for whose version there is none."""

    name = RANGES
    folder = "updated-ranges"
    resumes = False

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        whole = folder.parent / Updated.folder
        super().publish(jobs, whole)
        repository = folder / "repository"
        shutil.rmtree(folder)
        shutil.copytree(whole / "repository", repository, copy_function=os.link)
        for manifest in (repository / "targets/releases").iterdir():
            for patch in json.loads(manifest.read_text())["components"][COMPONENT].get("patches", []):
                for part in patch.keys() & {"table", "blob", "index"}:
                    (repository / "blobs" / patch[part]["sha256"]).unlink(missing_ok=True)
        self._states = folder / "states"


def _quietly(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        status = releasectl(arguments)
    if status != 0:
        raise RuntimeError(f"releasectl {' '.join(arguments)} ended with {status}")


def _sources() -> str:
    """A digest of what decides how a repository looks: it is made anew when that changes."""
    digest = hashlib.sha256()
    for path in _publishing():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _publishing() -> Iterator[Path]:
    yield from sorted((ROOT / "updated/publish").glob("*.py"))
    yield from (ROOT / "updated/core" / name for name in ("index.py", "release.py"))
