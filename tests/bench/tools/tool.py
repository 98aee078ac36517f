"""What the benchmark needs to know of a tool."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.slots import Image

__all__ = ["LEVEL", "PUBLISH_SECONDS", "Job", "Place", "Tool", "make", "output_of", "package_version", "sync"]

PUBLISH_SECONDS = 7200
#: The level of zstd for the tools that let one choose.
LEVEL = 15


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place.

    `url`: the tool's folder at the web server, without a slash at its end. `slot`: the device to write. `running`: the
    device that holds the old image, to be read only. `work`: the tool's own folder, empty before the first attempt.
    """

    url: str
    slot: str
    running: str
    work: Path


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be installed: `new`, with the help of `old` where possible. `again`: the slot may hold parts of it."""

    new: Image
    old: Image | None = None
    again: bool = False


class Tool(ABC):
    """One way to install an image from a web server."""

    name: str
    #: The name of its folder at the web server; tools that show the same files share one.
    folder: str
    #: Whether it takes what did not change from the old image.
    delta = False
    #: Whether a run after one that was cut short, or over a slot that is right already, costs less than the first.
    resumes = False
    #: The programs that it needs.
    programs: tuple[str, ...] = ()
    needs_devices = False

    def missing(self) -> str:
        """Why it can't be run on this machine; empty when it can."""
        absent = [name for name in self.programs if shutil.which(name) is None]
        return f"{', '.join(absent)} is not installed" if absent else ""

    def version(self) -> str:
        """The version of the tool."""
        return ""

    @abstractmethod
    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        """Makes what the server shows for `jobs` in `folder`, where it is not there already."""

    def prepare(self, job: Job, place: Place) -> None:  # noqa: B027
        """What a machine has before the update begins; not measured."""

    @abstractmethod
    def steps(self, job: Job, place: Place) -> list[Step]:
        """The processes that do the job."""

    def done(self) -> None:  # noqa: B027
        """Lets go of what `steps` opened."""


def make(target: Path, *commands: Sequence[str]) -> Path:
    """Runs `commands` to make the file `target`, which they call `{}`, unless it is there."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"    makes {target.name}", flush=True)
        partial = target.with_name(f"partial-{target.name}")
        partial.unlink(missing_ok=True)
        for command in commands:
            words = [str(partial) if word == "{}" else word for word in command]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PUBLISH_SECONDS)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1000:]}")
        partial.replace(target)
    return target


def sync(place: Place) -> Step:
    """For tools that leave it to the kernel when what they wrote is on the disk."""
    return Step("sync", ["sync", place.slot])


def output_of(*command: str) -> str:
    """What a program prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()


def package_version(package: str) -> str:
    """The version of an installed Debian package."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip()
