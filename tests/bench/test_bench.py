"""The benchmark runs, with those of the other tools that are installed here."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import sizes
from tests.bench.goals import goals
from tests.bench.images import ROOT
from tests.bench.measure import RunFailed, Step, run
from tests.bench.report import PARTS
from tests.bench.results import OWN, Results
from tests.documents import FOLDER


def test_the_short_run_goes_through(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    # In a process of its own, for it adopts the orphans of what it runs.
    command = [sys.executable, "-m", "tests.bench", "--short", "--only", "full,delta-upgrade,same,resume"]
    command += ["--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert (done.returncode, failed) == (0, []), done.stderr
    found = Results(json.loads(results.read_text()))
    assert found.scenarios("short") == ["full", "delta-upgrade", "same", "resume"]
    full, delta, same, resumed = (found.summary("short", name) for name in found.scenarios("short"))
    assert full is not None
    assert delta is not None
    assert same is not None
    assert resumed is not None
    assert same.downloaded < delta.downloaded < full.downloaded
    assert full.cpu > 0
    assert full.memory > 1e6
    assert "nothing changed" in [goal.what for goal in goals(found, "short")]


def test_a_run_that_fails_says_so() -> None:
    with pytest.raises(RunFailed, match=r"try ended with status 3:\nbecause"):
        run([Step("try", ["sh", "-c", "echo because; exit 3"])])


def test_a_run_that_hangs_is_ended() -> None:
    with pytest.raises(RunFailed, match="did not end in time"):
        run([Step("try", ["sleep", "60"])], timeout=0.2)


def test_what_a_run_costs_has_its_descendants_in_it() -> None:
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    work = f"x = bytearray(64 << 20)\n{busy}"
    usage = run([Step("try", ["sh", "-c", f"python3 -c '{work}'; true"])])
    assert 0.3 <= usage.cpu < 3
    assert usage.memory > 64 << 20
    assert usage.steps["try"].largest > 64 << 20


def test_the_computed_size_of_an_adaptive_bundle(tmp_path: Path) -> None:
    source = random.Random(1)
    old, new = tmp_path / "old", tmp_path / "new"
    content = bytearray(source.randbytes(1 << 20))
    old.write_bytes(content)
    content[4096:8192] = source.randbytes(4096)
    content[500_000:500_100] = bytes(100)
    new.write_bytes(content)
    found = sizes.rauc_adaptive(old, new)
    assert found["index"] == 256 * 32
    assert found["missing"] == 2 * 4096
    # Random bytes don't compress, so the two pieces of 128 KiB are stored as they are.
    assert 2 * (128 * 1024 - 200) <= found["pieces"] <= 2 * 128 * 1024


def test_each_measured_part_of_the_document_is_known() -> None:
    text = (FOLDER / "benchmark.md").read_text()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("<!-- measured: ")]
    scenarios = {f"ext4-{name}" for name in ("full", "delta-patch", "delta-upgrade", "same", "resume")}
    assert sorted(names) == sorted({*PARTS, *scenarios, "erofs-delta-patch", "erofs-delta-upgrade"})
    assert OWN in text
    assert str(ROOT) not in text
