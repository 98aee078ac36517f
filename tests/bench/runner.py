"""One run of one tool: the slots before it, the run, what it cost, and whether the slot holds the image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.measure import RunFailed, Usage, run
from tests.bench.server import Server, relay
from tests.bench.slots import Image, Slot, WrongContent, empty_cache, running_slot
from tests.bench.tools.tool import Job, Place, Tool


@dataclass(frozen=True, slots=True)
class Record:
    """What one run cost: bytes and seconds. `unsynced`: bytes that the tool left for the kernel to write later."""

    scenario: str
    tool: str
    image: str
    round: int
    usage: Usage | None = None
    downloaded: int = 0
    requests: int = 0
    written: int | None = None
    unsynced: int | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of run. `before` is what the passive slot holds, zeros when it is None; `rate` limits the link."""

    name: str
    job: Job
    before: Image | None = None
    half: bool = False
    rate: int = 0


class Runner:
    """Runs tools against one web server and one passive slot. `machine` is the image of the slot that runs."""

    def __init__(self, server: Server, www: Path, slot: Slot, machine: Image, work: Path) -> None:
        self._server = server
        self._www = www
        self._slot = slot
        self._machine = machine
        self._work = work
        self._whole: dict[tuple[str, str], int] = {}

    def warm(self, tool: Tool) -> None:
        """Reads what the server shows once: it then sends from memory, as a busy server does."""
        for path in (self._www / tool.folder).rglob("*"):
            if path.is_file():
                with path.open("rb", buffering=0) as file:
                    while file.read(1 << 22):
                        pass

    def run(self, scenario: Scenario, tool: Tool, number: int) -> Record:
        """One run; a failure of the tool is a record, too."""
        with self._place(scenario.job) as place:
            try:
                return self._run(scenario, tool, number, place)
            except (RunFailed, WrongContent) as error:
                self._server.traffic()
                return Record(scenario.name, tool.name, scenario.job.new.name, number, error=str(error)[-500:])
            finally:
                tool.done()

    def _run(self, scenario: Scenario, tool: Tool, number: int, place: Place) -> Record:
        job = scenario.job
        if scenario.before is None:
            self._slot.empty()
        else:
            self._slot.fill(scenario.before)
        port = 0
        if scenario.half:
            port = self._cut_in_the_middle(job, tool, place)
        if port or scenario.rate:
            with relay(self._server, rate=scenario.rate, listen=port) as link:
                return self._measured(scenario, tool, number, self._at(place, tool, link.url))
        return self._measured(scenario, tool, number, self._at(place, tool, self._server.url))

    def _cut_in_the_middle(self, job: Job, tool: Tool, place: Place) -> int:
        """Starts a run, and kills it when half of its bytes came; the port of the link, for the run after it."""
        hold = self._bytes_of_a_whole_run(job, tool, place) // 2
        with relay(self._server, hold=hold) as link:
            there = self._at(place, tool, link.url)
            tool.prepare(job, there)
            self._slot.forget()
            if not run(tool.steps(job, there), cut=link.held).cut:
                raise RunFailed("the run was over before half of its bytes came")
            return int(link.url.rpartition(":")[2])

    def _bytes_of_a_whole_run(self, job: Job, tool: Tool, place: Place) -> int:
        key = (tool.name, job.new.name)
        if key not in self._whole:
            self._server.traffic()
            there = self._at(place, tool, self._server.url)
            tool.prepare(job, there)
            self._slot.forget()
            run(tool.steps(job, there))
            self._whole[key] = self._server.traffic().sent
            shutil.rmtree(place.work)
            place.work.mkdir()
            self._slot.empty()
        return self._whole[key]

    def _measured(self, scenario: Scenario, tool: Tool, number: int, place: Place) -> Record:
        job = scenario.job
        if scenario.half or scenario.before == job.new:
            job = Job(job.new, job.old, again=True)
        tool.prepare(job, place)
        for path in (place.slot, place.running):
            empty_cache(path)
        self._server.traffic()
        before = self._slot.written()
        steps = tool.steps(job, place)
        self._slot.forget()
        usage = run(steps)
        after = self._slot.written()
        traffic = self._server.traffic()
        empty_cache(place.slot)
        later = self._slot.written()
        self._slot.check(job.new)
        written = unsynced = None
        if before is not None and after is not None and later is not None:
            written, unsynced = later - before, later - after
        if not scenario.half and job.old is None and not job.again:
            self._whole[tool.name, job.new.name] = traffic.sent
        return Record(
            scenario.name, tool.name, job.new.name, number, usage, traffic.sent, traffic.requests, written, unsynced
        )

    def _at(self, place: Place, tool: Tool, url: str) -> Place:
        return Place(f"{url}/{tool.folder}", place.slot, place.running, place.work)

    @contextmanager
    def _place(self, job: Job) -> Iterator[Place]:
        work = self._work / f"run-{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with running_slot(job.old or self._machine) as running:
                yield Place("", self._slot.path, running, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
