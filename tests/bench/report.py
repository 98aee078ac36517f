"""Writes the measured parts of packaging/doc/benchmark.md, and its plots, from the file of results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench import images as real
from tests.bench import suites
from tests.bench.goals import goals
from tests.bench.results import OWN, SEALED, Results, Summary
from tests.documents import FOLDER, table

DOCUMENT = FOLDER / "benchmark.md"
SUITE = "ext4"
_PART = re.compile(r"(<!-- measured: ([\w-]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
_HEADER = ("tool", "time", "processor", "memory", "downloaded", "answers", "written", "rounds")


def write(document: Mapping[str, Any], target: Path = DOCUMENT) -> None:
    """Writes the parts for which there are results; the others, and all words of people, stay as they are."""
    results = Results(document)
    text = target.read_text()

    def part(match: re.Match[str]) -> str:
        maker = PARTS.get(match[2])
        made = maker(results) if maker is not None else _scenario(results, match[2])
        return match[1] + (made or match[3]) + match[4]

    target.write_text(_PART.sub(part, text))
    _plots(results, target.parent)


def _scenario(results: Results, name: str) -> str:
    """The table of a scenario; ratios are against `updated`."""
    suite, _, scenario = name.partition("-")
    found = results.summaries(suite, scenario)
    own = results.summary(suite, scenario)
    rows = [_row(each, own) for each in found] + _computed(results, suite, scenario)
    return table(_HEADER, rows) if found else ""


def _row(each: Summary, own: Summary | None) -> tuple[str, ...]:
    if each.error:
        return (each.tool, f"failed: {each.error}", "", "", "", "", "", "0")

    def ratio(measure: Callable[[Summary], float]) -> str:
        return f" ({measure(each) / measure(own):.2f} ×)" if own is not None and each.tool != OWN else ""

    return (
        each.tool,
        f"{_seconds(each.seconds)}{ratio(lambda one: one.seconds)}",
        _seconds(each.cpu),
        _megabytes(each.memory),
        f"{_megabytes(each.downloaded)}{ratio(lambda one: one.downloaded)}",
        f"{each.requests:.0f}",
        "" if each.written is None else _megabytes(each.written),
        str(each.rounds),
    )


def _computed(results: Results, suite: str, scenario: str) -> list[tuple[str, ...]]:
    """Rows of what is computed and not run."""
    own = results.summary(suite, scenario)
    found = results.computed.get(suite, {}).get(scenario.removeprefix("delta-"), {})
    rows: list[tuple[str, ...]] = []
    for name, title in (("rauc-adaptive", "RAUC, adaptive, streamed"), ("xdelta3", "xdelta3 of the whole images")):
        if name in found:
            size = found[name]["total"] if isinstance(found[name], dict) else found[name]
            against = f" ({size / own.downloaded:.2f} ×)" if own else ""
            rows.append((f"{title} (computed)", "", "", "", f"{_megabytes(size)}{against}", "", "", ""))
    return rows


def _goals(results: Results) -> str:
    words = {True: "yes", False: "**no**", None: ""}
    rows = [(each.what, each.wanted, each.found, words[each.reached]) for each in goals(results, SUITE)]
    return table(("what", "goal", "found", "reached"), rows) if rows else ""


def _images(results: Results) -> str:
    try:
        base = real.package_list("base")
    except OSError:
        return ""
    rows = []
    for recipe in real.RECIPES:
        packages = real.package_list(recipe.name)
        changed = sum(base.get(name) != version for name, version in packages.items())
        erofs = real.image(recipe.name, "erofs").stat().st_size
        sizes = (_megabytes(real.SLOT_SIZE), _megabytes(erofs))
        rows.append((f"`{recipe.name}`", str(len(packages)), str(changed), *sizes))
    return table(("image", "packages", "others than in `base`", "ext4", "erofs"), rows)


def _machine(results: Results) -> str:
    machine = results.machine
    if not machine:
        return ""
    line = "{processor}, {cores} cores, {memory} of memory, Linux {kernel}, {system}.\n\n".format(**machine)
    return line + table(("tool", "version"), [(name, version) for name, version in results.versions.items()])


def _memory(results: Results) -> str:
    rows = []
    for scenario in results.scenarios("memory"):
        kind, _, size = scenario.partition("-")
        own = results.summary("memory", scenario)
        if own is not None:
            rows.append(
                (f"{size} GiB, {kind}", _megabytes(own.memory), _megabytes(own.downloaded), _seconds(own.seconds))
            )
    return table(("image", "memory", "downloaded", "time"), rows) if rows else ""


def _slow(results: Results) -> str:
    rows = []
    for scenario in ("slow-patch", "slow-upgrade"):
        own, sealed = results.summary(SUITE, scenario), results.summary(SUITE, scenario, SEALED)
        if own is not None and sealed is not None:
            ideal = own.downloaded / suites.SLOW
            name = f"`{scenario.removeprefix('slow-')}`"
            fast = results.summary(SUITE, scenario.replace("slow", "delta"))
            times = (ideal, fast.seconds if fast else 0.0, own.seconds, sealed.seconds - own.seconds)
            rows.append((name, _megabytes(own.downloaded), *(_seconds(time) for time in times)))
    header = ("update to", "downloaded", "bytes / rate", "fetch without a limit", "fetch", "seal")
    return table(header, rows) if rows else ""


def _change(results: Results) -> str:
    rows = [
        (f"{name.partition('-')[2]} MiB", *(_megabytes(each.downloaded) for each in results.summaries("change", name)))
        for name in results.scenarios("change")
    ]
    names = [each.tool for name in results.scenarios("change")[:1] for each in results.summaries("change", name)]
    return table(("changed", *names), rows) if rows else ""


PARTS: Mapping[str, Callable[[Results], str]] = {
    "goals": _goals, "images": _images, "machine": _machine, "memory": _memory, "slow": _slow, "change": _change,
}


def _plots(results: Results, folder: Path) -> None:
    # Only the report needs matplotlib, and not the test of the benchmark.
    from tests.bench.plots import plot

    lines: dict[str, list[tuple[float, float]]] = {}
    for scenario in results.scenarios("change"):
        changed = float(scenario.partition("-")[2])
        for each in results.summaries("change", scenario):
            lines.setdefault(each.tool, []).append((changed, each.downloaded / 2**20))
    if lines:
        plot(
            folder / "benchmark-change.svg", lines, x="MiB of 512 that changed", y="MiB downloaded", logarithmic=True,
            diagonal="what changed, not compressed",
        )
    memory: dict[str, list[tuple[float, float]]] = {}
    for scenario in results.scenarios("memory"):
        kind, _, size = scenario.partition("-")
        if (own := results.summary("memory", scenario)) is not None:
            memory.setdefault(f"{kind} image", []).append((float(size), own.memory / 1e6))
    if memory:
        plot(folder / "benchmark-memory.svg", memory, x="GiB of the image", y="MB of memory at most")


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _megabytes(value: float) -> str:
    digits = 2 if value < 1e7 else 1 if value < 1e8 else 0
    return f"{value / 1e6:.{digits}f} MB"
