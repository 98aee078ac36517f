"""The attacked node: a real disk, the engine of the daemon, real children; and what must be true after each cycle."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from bootctl import gpt
from tests.attack.signing import NOW
from tests.fakes.machine import Machine
from tests.node.bench import Bench
from tests.node.world import Publisher
from updated.config import read_settings
from updated.core import events
from updated.engine import Engine
from updated.metrics import Metrics


class Node:
    """The machine with its daemon's engine; the daemon lives on from cycle to cycle, until `reboot`."""

    def __init__(self, machine: Machine, publisher: Publisher) -> None:
        self.machine = machine
        self.bench = Bench(publisher, machine)
        self.clock = float(NOW)
        self._runner = asyncio.Runner()
        self._start()

    def _start(self) -> None:
        self.engine = Engine(read_settings(str(self.machine.root)), clock=lambda: self.clock)
        self.metrics = Metrics()
        self.engine.audience.listeners.append(self.metrics)
        self._runner.run(self._begin())

    async def _begin(self) -> None:
        self._work = asyncio.create_task(self.engine.run())
        self.engine.start()
        await self._rest()

    async def _rest(self) -> None:
        rest = asyncio.create_task(self.engine.rest())
        await asyncio.wait({rest, self._work}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert rest.done(), "the engine died, or found no rest within a minute"

    async def _look(self, kind: type[events.Event]) -> None:
        refusal = self.engine.request(kind, by="a person")
        assert refusal is None, refusal
        await self._rest()

    async def _end(self) -> None:
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)

    def stop(self) -> None:
        """Ends the daemon."""
        self._runner.run(self._end())

    def close(self) -> None:
        """Ends all of it."""
        self.stop()
        self._runner.close()

    def cycle(self, *, at: float | None = None) -> dict[str, Any]:
        """Looks at the repository, and does all that follows; the status after it. `at`: the clock from now on."""
        self.clock = self.clock if at is None else at
        self._runner.run(self._look(events.CheckRequested))
        return self.bench.status()

    def reboot(self) -> str:
        """The slot that runs after a reboot, with a new daemon."""
        self.stop()
        slot = self.machine.power_on()
        self._start()
        return slot

    def roll_back(self) -> str:
        """A person goes back to the other slot; the slot that runs then."""
        self._runner.run(self._look(events.RollbackRequested))
        return self.reboot()

    def restart(self) -> None:
        """A new daemon."""
        self.stop()
        self._start()

    def follow(self, channel: str) -> None:
        """A person chooses another channel; it is not looked at yet."""
        refusal = self.engine.request(events.ChannelRequested, by="a person", channel=channel)
        assert refusal is None, refusal

    def forget(self) -> None:
        """Makes the node one that has never asked for anything, with a new daemon."""
        self.stop()
        for path in self.machine.state.iterdir():
            if path.name != "health":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._start()

    def metric(self, name: str, **labels: str) -> float | None:
        """A value that Prometheus would get; None when it would get none."""
        value: float | None = self.metrics.registry.get_sample_value(f"updated_{name}", labels)
        return value

    def may_boot(self) -> set[str]:
        """The slots that the loader would start, now or when the other one fails."""
        return {slot for slot in ("a", "b") if _bootable(self.bench.attributes(slot) >> 48)}

    def refuses(self, code: str, *words: str, at: float | None = None) -> dict[str, Any]:
        """A cycle that ends in the error `code`, told with `words` and counted; nothing but the old slot may boot."""
        before, counted = self.bench.active(), self.metric("errors_total", code=code) or 0
        document = self.cycle(at=at)
        error = document["error"]
        assert error is not None, document["summary"]
        line = f"{error['what']}: {error['cause']}. {error['mend']}"
        assert error["code"] == code, f"{error['code']}: {line}"
        assert all(error[part] for part in ("what", "cause", "mend"))
        for word in words:
            assert word in line, f"{word!r} is not in {line!r}"
        assert line in document["summary"]
        assert self.metric("errors_total", code=code) == counted + 1
        self.is_as_before(before)
        return document

    def refuses_untouched(self, code: str, *words: str, at: float | None = None) -> dict[str, Any]:
        """As `refuses`, and no byte of the disk changes."""
        before = self.bench.disk_content()
        document = self.refuses(code, *words, at=at)
        assert self.bench.disk_content() == before
        return document

    def finds_nothing(self, *words: str, at: float | None = None) -> dict[str, Any]:
        """A cycle that ends well without an update; no byte of the disk changes. `words` are those of the status."""
        before = self.bench.disk_content()
        document = self.cycle(at=at)
        assert document["error"] is None, document["summary"]
        for word in words:
            assert word in document["summary"]
        assert self.bench.disk_content() == before
        return document

    def is_as_before(self, before: object) -> None:
        """The slot that ran at `before`, which is a `bench.active()`, is untouched, and alone may boot."""
        assert self.bench.active() == before
        assert self.may_boot() == {self.machine.boots[-1]}

    def updates(self, version: str = "1.1.0", *, at: float | None = None) -> None:
        """A cycle stages the release: the old slot stays, and behind it nothing is left of what was before."""
        before = self.bench.active()
        document = self.cycle(at=at)
        assert f"{version} is staged and boots next" in document["summary"], document["summary"]
        assert document["error"] is None
        assert self.bench.active().content == before.content
        assert self.may_boot() == {"a", "b"}

    def sees(self, version: str = "1.1.0", *, at: float | None = None) -> None:
        """A cycle finds the release, and would install it if a person had not put the node on hold, to spare time."""
        self.engine.request(events.HoldRequested, by="a person", until=None)
        document = self.cycle(at=at)
        assert document["error"] is None, document["summary"]
        assert document["offer"] is not None, document["summary"]
        assert document["offer"]["version"] == version
        assert [reason["code"] for reason in document["reasons"]] == ["held"]

    def slot(self, name: str) -> bytes:
        """What lies in a slot."""
        with self.machine.disk.open("rb") as disk:
            table = gpt.read_table(disk.fileno())
            partition = table.partition(f"rootfs-{name}")
            disk.seek(partition.offset(table.sector_size))
            return disk.read(partition.size(table.sector_size))


def _bootable(bits: int) -> bool:
    priority, tries, successful = bits & 15, bits >> 4 & 15, bits >> 8 & 1
    return bool(priority and (tries or successful))
