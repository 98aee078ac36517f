"""The rules for Prometheus are accepted by its own tools, and each is tried."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.fakes.prometheus import RULES
from tests.test_documents import anchors
from updated.metrics import Metrics

FOLDER = Path(__file__).parent
TESTS = (FOLDER / "updated.test.yml", FOLDER / "updated-days.test.yml")
DOCUMENT = FOLDER.parent.parent / "packaging/doc/metrics.md"


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> dict[str, str]:
    """The text of each alert by its name."""
    parts = re.split(r"^ +- alert: (\w+)\n", RULES.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def records() -> list[str]:
    return re.findall(r"- record: (\S+)", RULES.read_text())


def known_metrics() -> set[str]:
    """What a node shows, by name."""
    families = Metrics().registry.collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in families}


def test_every_metric_of_the_rules_exists() -> None:
    lines = (line.partition("#")[0] for line in RULES.read_text().splitlines() if "description:" not in line)
    used = set(re.findall(r"(?<!:)\bupdated_\w+", "\n".join(lines)))
    assert used <= known_metrics(), used - known_metrics()


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(RULES))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_each_rule_does_what_it_says(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_each_alert_is_seen_to_fire() -> None:
    text = "".join(path.read_text() for path in TESTS)
    assert set(alerts()) == set(re.findall(r"labels: '\{alertname=\"(\w+)\"[^}]*\}', value: 1", text))


def test_each_recorded_series_is_compared() -> None:
    text = "".join(path.read_text() for path in TESTS)
    assert [name for name in records() if f"expr: {name}\n" not in text and f"expr: '{name}'" not in text] == []


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    text = alerts()[name]
    assert re.search(r"severity: (critical|warning|info)$", text, re.MULTILINE)
    for annotation in ("summary", "description", "runbook"):
        assert f"          {annotation}: " in text


def test_the_manual_lists_each_alert_with_its_severity() -> None:
    documented = dict(re.findall(r"^\| `(Updated\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    severities = {name: re.findall(r"severity: (\w+)", text) for name, text in alerts().items()}
    assert {name: [severity] for name, severity in documented.items()} == severities


def test_the_manual_says_where_more_on_each_alert_stands() -> None:
    lines = re.findall(r"^\| `Updated\w+` .*$", DOCUMENT.read_text(), re.MULTILINE)
    for line in lines:
        name, anchor = re.fullmatch(r".* \[\w+\]\(([\w.]*)#([a-z-]+)\) \|", line).groups()  # type: ignore[union-attr]
        assert anchor in anchors(DOCUMENT.parent / name if name else DOCUMENT), line


def test_the_manual_lists_each_recorded_series() -> None:
    assert re.findall(r"^\| `([a-z_]+:\S+)` \|", DOCUMENT.read_text(), re.MULTILINE) == records()


def test_the_configurations_of_the_manual_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) > 1
    for number, block in enumerate(blocks):
        text = block.replace("/usr/share/updated/prometheus/updated.rules.yml", str(RULES))
        path = tmp_path / f"{number}.yml"
        path.write_text(text if "scrape_configs:" in text else "scrape_configs: []\n" + text)
        promtool("check", "config", str(path))
