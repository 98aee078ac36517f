"""The benchmark: `python -m tests.bench`; see packaging/doc/benchmark.md for what it found.

It needs root, for block devices, and the programs of packaging/install-bench-packages. What takes long to make (images,
repositories, bundles) is kept in build/bench/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import images as real
from tests.bench import report, sizes, suites
from tests.bench.machine import describe
from tests.bench.measure import adopt_orphans
from tests.bench.runner import Runner
from tests.bench.server import serve
from tests.bench.slots import open_slot
from tests.bench.suites import Suite
from tests.bench.tools.all import all_tools
from tests.bench.tools.tool import Tool


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 when a run failed."""
    options = _options(arguments)
    adopt_orphans()
    # So that devices are given back and servers ended, as at Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if options.report:
        report.write(json.loads(options.results.read_text()))
        return 0
    tools = _tools(options.tools)
    results: Path = options.results
    if options.short:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            suite = suites.short_suite(Path(folder), tools, options.rounds)
            return _run(Path(folder), suites.only(suite, options.only), results, tools)
    status = 0
    for suite in _suites(options, tools):
        status |= _run(real.FOLDER, suite, results, tools)
    if not options.only or "computed" in options.only:
        _add_computed(results, options.kind)
    return status


def _suites(options: argparse.Namespace, tools: list[Tool]) -> Iterator[Suite]:
    """The suites that were asked for; each makes its images when it begins."""
    names = options.only
    if not names or set(names) - {"memory", "change", "computed"}:
        yield suites.only(suites.real_suite(options.kind, tools, options.rounds), names)
    if not names or "memory" in names:
        yield suites.memory_suite(real.FOLDER / "memory")
    if not names or "change" in names:
        yield suites.change_suite(real.FOLDER / "change")


def _run(folder: Path, suite: Suite, results: Path, tools: list[Tool]) -> int:
    failed = False
    www = folder / "www" / suite.name
    www.mkdir(parents=True, exist_ok=True)
    with open_slot(folder / f"slot-{suite.slot_size >> 20}.img", suite.slot_size) as slot:
        if not slot.is_device:
            print("  not root: the slots are files, and nobody counts what is written")
            suite = suites.without(suite, [tool for tool in tools if tool.needs_devices])
        print(f"{suite.name}: publishes", flush=True)
        suites.publish(www, suite)
        print(f"{suite.name}: runs", flush=True)
        with serve(www) as server:
            runner = Runner(server, www, slot, suite.machine, folder)
            for plan in suite.plans:
                records = suites.run(runner, plan)
                failed = failed or any(record.error for record in records)
                _add(results, suite.name, [record.to_json() for record in records], tools)
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--short", action="store_true", help="small images that are made from numbers, and one round")
    add("--rounds", type=int, default=None, help="how often each tool runs (default: 5; with --short 1)")
    add("--kind", choices=("ext4", "erofs"), default="ext4", help="the file system (default: %(default)s)")
    add("--only", metavar="NAMES", type=_names, default=[], help="these suites or scenarios alone, with commas")
    add("--tools", metavar="NAMES", type=_names, default=[], help="these tools alone, with commas")
    add("--results", metavar="FILE", type=Path, help="the file of results (default: beside the images)")
    add("--report", action="store_true", help="only write the document, from the results that are there")
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.short else 5
    if options.results is None:
        options.results = real.FOLDER / ("results-short.json" if options.short else "results.json")
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _tools(names: list[str]) -> list[Tool]:
    """The tools that can be run here; says which can't."""
    found = []
    for tool in all_tools():
        if names and tool.name not in names:
            continue
        if reason := tool.missing():
            print(f"  without {tool.name}: {reason}", flush=True)
        else:
            found.append(tool)
    return found


def _add(path: Path, suite: str, records: list[dict[str, Any]], tools: list[Tool]) -> None:
    """Puts the records of a scenario into the file of results, in the place of earlier ones of the same tools."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    runs = kept.setdefault("runs", {})
    new = {(record["scenario"], record["tool"]) for record in records}
    runs[suite] = [run for run in runs.get(suite, []) if (run["scenario"], run["tool"]) not in new] + records
    versions = kept.get("versions", {}) | {tool.name: tool.version() for tool in tools}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept))
    _keep(path, machine=describe(), versions=versions)


def _add_computed(path: Path, kind: str) -> None:
    kept = json.loads(path.read_text()) if path.exists() else {}
    _keep(path, computed=kept.get("computed", {}) | {kind: sizes.computed(kind)})


def _keep(path: Path, **values: Any) -> None:
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | values, indent=1))


if __name__ == "__main__":
    if shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        sys.exit("nginx is missing; packaging/install-system-packages installs it")
    sys.exit(main())
