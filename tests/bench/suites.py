"""What is run: sets of images, the scenarios for each, which tools take part, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import images as real
from tests.bench.results import RANGES
from tests.bench.runner import Record, Runner, Scenario
from tests.bench.slots import Image
from tests.bench.synthetic import MIB, dense_image, edited, small_images
from tests.bench.tools.casync import Casync
from tests.bench.tools.own import Updated
from tests.bench.tools.tool import Job, Tool

#: Bytes per second of the slow link: 20 Mbit/s.
SLOW = 2_500_000
#: A tool that takes longer than this many seconds in a scenario has one round of it.
LONG = 30.0
GIB = 1 << 30
CHANGE_SIZE = 512 * MIB
CHANGES = tuple(megabytes * MIB for megabytes in (1, 4, 16, 64, 256))


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario, its tools, and its rounds."""

    scenario: Scenario
    tools: Sequence[Tool]
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Suite:
    """Plans that share a web server's folder and a slot. `machine` is the image of the slot that runs."""

    name: str
    machine: Image
    slot_size: int
    plans: Sequence[Plan]


def real_suite(kind: str, tools: Sequence[Tool], rounds: int) -> Suite:
    """The Debian images, as file systems of one kind."""
    real.build_images()
    images = {recipe.name: Image.of(recipe.name, real.image(recipe.name, kind)) for recipe in real.RECIPES}
    return Suite(kind, images["base"], real.SLOT_SIZE, _plans(images, tools, rounds))


def short_suite(folder: Path, tools: Sequence[Tool], rounds: int) -> Suite:
    """The same scenarios with images of a few megabytes, to see that everything runs."""
    images = small_images(folder)
    return Suite("short", images["base"], images["base"].size, _plans(images, tools, rounds))


def _plans(images: Mapping[str, Image], tools: Sequence[Tool], rounds: int) -> list[Plan]:
    """Tools without deltas cost in the scenarios that they are not in what a full installation costs."""
    base, patch, upgrade = images["base"], images["patch"], images["upgrade"]
    small, large = Job(patch, base), Job(upgrade, base)
    deltas = [tool for tool in tools if tool.delta]
    # The smaller chunks of casync take minutes where nothing is there, and tell nothing that the larger ones don't.
    whole = [tool for tool in tools if tool.name not in (Casync(16384).name, RANGES)]
    resuming = [tool for tool in whole if tool.resumes]
    own = [tool for tool in tools if tool.folder == "updated"]
    few = (rounds + 1) // 2
    return [
        Plan(Scenario("full", Job(upgrade)), whole, rounds),
        Plan(Scenario("delta-patch", small), deltas, rounds),
        Plan(Scenario("delta-upgrade", large), deltas, rounds),
        Plan(Scenario("over-patch", small, before=base), own, rounds),
        Plan(Scenario("over-upgrade", large, before=base), own, rounds),
        Plan(Scenario("same", large, before=upgrade), resuming, few),
        Plan(Scenario("resume", Job(upgrade), half=True), resuming, few),
        Plan(Scenario("slow-patch", small, rate=SLOW), own),
        Plan(Scenario("slow-upgrade", large, rate=SLOW), own),
    ]


def memory_suite(folder: Path) -> Suite:
    """Images of several sizes, for the memory that `updated fetch` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [dense_image(folder / f"dense-{size}.img", size * GIB, data=size * GIB) for size in (1, 2, 4, 8)]
    images.append(dense_image(folder / "sparse-8.img", 8 * GIB, data=GIB // 2))
    plans = []
    for image in images:
        tool = Updated(level=1)
        tool.folder = image.name
        plans.append(Plan(Scenario(image.name, Job(image)), [tool]))
    return Suite("memory", images[0], 8 * GIB, plans)


def change_suite(folder: Path) -> Suite:
    """Part of the real base image with more and more bytes changed, for the bytes that an update costs."""
    folder.mkdir(parents=True, exist_ok=True)
    real.build_images(("ext4",))
    whole = Image.of("base", real.image("base", "ext4"))
    donor = real.image("upgrade", "ext4")
    base = edited(whole, folder / "changed-0.img", size=CHANGE_SIZE, changed=0, donor=donor)
    tools = [Updated(), Casync(16384), Casync(65536)]
    plans = []
    for changed in CHANGES:
        name = f"changed-{changed // MIB}"
        image = edited(whole, folder / f"{name}.img", size=CHANGE_SIZE, changed=changed, donor=donor)
        plans.append(Plan(Scenario(name, Job(image, base)), tools))
    return Suite("change", base, CHANGE_SIZE, plans)


def publish(www: Path, suite: Suite) -> None:
    """Makes all that the server shows, in the folder `www`."""
    tools: dict[tuple[str, str], tuple[Tool, list[Job]]] = {}
    for plan in suite.plans:
        for tool in plan.tools:
            tools.setdefault((tool.name, tool.folder), (tool, []))[1].append(plan.scenario.job)
    for tool, jobs in tools.values():
        folder = www / tool.folder
        folder.mkdir(parents=True, exist_ok=True)
        tool.publish(jobs, folder)


def run(runner: Runner, plan: Plan) -> list[Record]:
    """All rounds of a scenario, the tools in turn, so that a change of the machine's mood meets all of them."""
    for tool in {tool.folder: tool for tool in plan.tools}.values():
        runner.warm(tool)
    records = []
    left = list(plan.tools)
    for number in range(plan.rounds):
        for tool in list(left):
            record = runner.run(plan.scenario, tool, number)
            print(f"  {plan.scenario.name} {number + 1}/{plan.rounds} {tool.name}: {_line(record)}", flush=True)
            records.append(record)
            if record.usage is None or record.usage.seconds > LONG:
                left.remove(tool)
    return records


def only(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with the scenarios of these names alone, or all of it when there are none; its own name is one, too."""
    if not names or suite.name in names:
        return suite
    return replace(suite, plans=[plan for plan in suite.plans if plan.scenario.name in names])


def without(suite: Suite, tools: Sequence[Tool]) -> Suite:
    """The suite without these tools."""
    plans = [replace(plan, tools=[tool for tool in plan.tools if tool not in tools]) for plan in suite.plans]
    return replace(suite, plans=plans)


def _line(record: Record) -> str:
    if record.usage is None:
        return f"FAILED: {record.error.strip().splitlines()[-1]}"
    usage = record.usage
    written = "" if record.written is None else f", {record.written / 1e6:.0f} MB written"
    return (
        f"{usage.seconds:.1f} s, {usage.cpu:.1f} s CPU, {usage.memory / 1e6:.0f} MB memory, "
        f"{record.downloaded / 1e6:.2f} MB in {record.requests} answers{written}"
    )
