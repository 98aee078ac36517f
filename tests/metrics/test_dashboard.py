"""The dashboard for Grafana asks a real Prometheus for what the nodes have."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import prometheus
from tests.fakes.prometheus import Prometheus
from tests.metrics.fleet import fleet, served
from tests.metrics.test_rules import DOCUMENT, known_metrics, records

DASHBOARD = Path(__file__).parent.parent.parent / "packaging/grafana/updated.json"
VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "30s"}


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, which has scraped nodes in several states twice or more."""
    nodes = fleet()
    with served(nodes) as targets, prometheus.serve(tmp_path_factory.mktemp("prometheus"), targets) as made:
        made.wait_for(f"count(count_over_time(updated_build_info[1m]) > 2) == {len(nodes)}")
        made.wait_for("job:updated_nodes:count")
        yield made


def test_all_rules_are_loaded_and_work(server: Prometheus) -> None:
    server.wait_until(
        lambda: [rule for rule in server.rules("alert") if rule["lastEvaluation"] > "2"], 30, "the first evaluation"
    )
    loaded = server.rules("record") + server.rules("alert")
    assert {rule["name"]: rule.get("lastError", rule["health"]) for rule in loaded if rule["health"] != "ok"} == {}
    assert {rule["name"] for rule in server.rules("record")} == set(records())


def test_the_alert_of_a_node_names_it_in_words(server: Prometheus) -> None:
    server.wait_for('ALERTS{alertname="UpdatedFellBack", alertstate="firing"}')
    told = [alert["annotations"] for alert in server.api("alerts")["alerts"]]
    assert "fallen fell back from 1.1.0" in [annotations["summary"] for annotations in told]
    assert not [text for annotations in told for text in annotations.values() if "<" in text or "%!" in text]


@pytest.mark.parametrize("expression", expressions())
def test_each_panel_finds_something(server: Prometheus, expression: str) -> None:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    assert server.query(expression) != []


def test_nodes_that_run_a_recalled_release_are_listed_with_it(server: Prometheus) -> None:
    (expression,) = [each for each in expressions() if "updated_running_recalled" in each]
    found = server.query(expression.replace("$job", ".+"))
    assert [(each["metric"]["instance"], each["metric"]["version"]) for each in found] == [("failed", "1.0.0")]


def test_the_queries_of_the_manual_are_accepted(server: Prometheus) -> None:
    queries = re.findall(r"```promql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [line.partition(" # ")[0] for query in queries for line in query.splitlines()]
    assert len(lines) > 2
    for line in lines:
        server.query(line)


def test_each_query_stands_for_the_chosen_nodes() -> None:
    for expression in expressions():
        for selector in re.findall(r"\{([^{}]*)\}", expression):
            assert 'job=~"$job"' in selector, expression
        assert len(re.findall(r"updated_\w+\{|\{__name__", expression)) == expression.count("{"), expression


def test_every_metric_of_the_dashboard_exists() -> None:
    variables = [each["query"]["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    used = set(re.findall(r"\bupdated_\w+", " ".join([*expressions(), *variables])))
    assert used <= known_metrics(), used - known_metrics()


def test_panels_have_a_description_and_a_place_of_their_own() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert [panel["title"] for panel in panels() if not panel["description"] or not panel["fieldConfig"]] == []
    places = [panel["gridPos"] for panel in everything]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


def test_data_source_job_and_node_are_chosen() -> None:
    document = dashboard()
    assert [each["name"] for each in document["templating"]["list"]] == ["datasource", "job", "instance"]
    sources = {panel["datasource"]["uid"] for panel in panels()}
    sources |= {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert sources == {"${datasource}"}
