"""The documents say what the code does."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.metrics import MetricWrapperBase

from bootctl.health_settings import HealthSettings
from bootctl.settings import DEFAULT_GRUBENV, boot_settings, load
from health import baseline, checkfile, judgement
from health import exits as health_exits
from health.check import Pace
from health.record import Record
from tests.documents import (
    DOCUMENTS,
    FOLDER,
    GENERATED,
    ROOT,
    generated_parts,
    metric_name,
    regenerated,
    rows,
    section,
)
from updated import __main__ as updated_program
from updated import daemon
from updated.cli import __main__ as updatectl
from updated.cli import exits
from updated.config import KEYS, read_settings
from updated.core import status
from updated.core.errors import UpdatedError
from updated.core.state import Phase
from updated.metrics import Metrics
from updated.publish import __main__ as releasectl

README = ROOT / "README.md"
OPERATING = FOLDER / "operating.md"
EXAMPLE = ROOT / "packaging/updated.toml.example"


def help_of(program: str, capsys: pytest.CaptureFixture[str]) -> str:
    main = {"updatectl": updatectl.main, "releasectl": releasectl.main}[program]
    with pytest.raises(SystemExit):
        main(["--help"])
    return capsys.readouterr().out


def verbs(program: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    return set(re.findall(r"^    ([a-z-]+)(?:  |$)", help_of(program, capsys), re.MULTILINE))


def first_words(title: str) -> set[str]:
    """The verbs of the table below a heading of operating.md."""
    return {name.split()[0] for name, *_ in rows(section(OPERATING.read_text(), title))}


# ----------------------------------------------------------------------------------------------------------- README


def test_the_quick_start_is_two_targets_of_the_makefile() -> None:
    block = re.search(r"```sh\n(.*?)```", section(README.read_text(), "Quick start"), re.DOTALL)
    assert block is not None
    commands = block[1].splitlines()
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_every_verb_is_explained_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert first_words("Verbs") == verbs("updatectl", capsys)
    assert first_words("Publishing") == verbs("releasectl", capsys)


def test_the_readme_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    commands = section(README.read_text(), "Commands at a glance")
    for verb in verbs("updatectl", capsys) | verbs("releasectl", capsys):
        assert re.search(rf"\b{verb}\b", commands), verb


# ------------------------------------------------------------------------------------------------- generated tables


def test_what_follows_from_the_code_is_as_the_code_gives_it() -> None:
    for document in DOCUMENTS:
        text = document.read_text()
        assert regenerated(text) == text, f"{document.name} is out of date: run 'make docs'"


def test_every_generated_table_is_in_a_document() -> None:
    assert sorted(name for path in DOCUMENTS for name, _ in generated_parts(path.read_text())) == sorted(GENERATED)


def test_a_change_of_the_code_would_be_seen() -> None:
    text = (FOLDER / "errors.md").read_text()
    assert regenerated(text.replace("`disk-full`", "`disk-fuller`")) == text


# ---------------------------------------------------------------------------------------------------- configuration


def documented_keys() -> dict[tuple[str, str], str]:
    """Default by table and key, as the manual has them."""
    text = (FOLDER / "configuration.md").read_text()
    tables = re.findall(r"^## \[(\w+)\]$", text, re.MULTILINE)
    return {(table, key): default for table in tables for key, default, _ in rows(section(text, f"[{table}]"))}


def test_the_manual_has_every_key_with_its_default() -> None:
    expected = {
        (table, key): "required" if rule.required else json.dumps(rule.default)
        for table, keys in KEYS.items()
        for key, rule in keys.items()
    }
    boot = boot_settings(load("/nonexistent"), "/")
    expected |= {
        ("disk", "device"): "none", ("disk", "image"): "none",
        ("disk", "components"): json.dumps(list(boot.components)), ("disk", "files"): json.dumps(dict(boot.files)),
        ("boot", "backend"): json.dumps(boot.backend),
        ("boot", "grubenv"): json.dumps(DEFAULT_GRUBENV), ("boot", "tries"): json.dumps(boot.tries),
        ("boot", "esp"): "found", ("boot", "fw_env_config"): json.dumps(boot.fw_env_config),
        ("boot", "autoboot"): json.dumps(boot.autoboot), ("boot", "count_confirmed"): json.dumps(boot.count_confirmed),
        ("boot", "tryboot_partitions"): "{ a = 2, b = 3 }",
    }
    expected |= {("health", key): json.dumps(value) for key, value in asdict(HealthSettings()).items()}
    assert documented_keys() == expected


def with_every_key(text: str) -> str:
    return re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_the_example_names_every_key() -> None:
    tables = tomllib.loads(with_every_key(EXAMPLE.read_text()))
    assert {(table, key) for table, keys in tables.items() for key in keys} == set(documented_keys())


@pytest.mark.parametrize("everything", [False, True], ids=["as it is", "every key"])
def test_the_example_is_a_configuration(tmp_path: Path, everything: bool) -> None:
    text = EXAMPLE.read_text()
    if everything:
        # Not together with device, with url, and with pin.
        text = re.sub(r"^(image|path|expired_grace_days|newest) = .*", "", with_every_key(text), flags=re.MULTILINE)
    place = tmp_path / "etc/updated/updated.toml"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    settings = read_settings(str(tmp_path))
    assert settings.url == "https://updates.example.org/os"
    assert (settings.boot.device is not None) == everything


# ---------------------------------------------------------------------------------------------------------- metrics


def registered_metrics() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric by its name."""
    found = [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]
    return {metric_name(each): (str(each._type), set(each._labelnames)) for each in found}


def test_the_manual_has_every_metric_with_its_type_and_labels() -> None:
    text = section((FOLDER / "metrics.md").read_text(), "Each metric")
    documented = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels, _ in rows(text)}
    assert documented == registered_metrics()


def test_every_metric_of_the_registry_is_kept_where_it_is_looked_for() -> None:
    families = Metrics().registry.collect()
    names = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    assert names == set(registered_metrics())


def test_the_queries_use_metrics_that_exist() -> None:
    queries = re.findall(r"```promql\n(.*?)```", (FOLDER / "metrics.md").read_text(), re.DOTALL)
    assert set(re.findall(r"(?<!:)\bupdated_\w+", "".join(queries))) <= set(registered_metrics())


# -------------------------------------------------------------------------------------------------------- operating


def statuses(program: str) -> dict[int, str]:
    return {int(number): meaning for number, meaning in rows(section(OPERATING.read_text(), program))}


def test_the_exit_statuses_of_updatectl_are_its_own() -> None:
    documented = statuses("updatectl")
    assert set(documented) == {value for value in vars(exits).values() if type(value) is int}
    told = {int(number): text for number, text in re.findall(r"^  (\d+)  (.*)$", exits.HELP, re.MULTILINE)}
    assert {number: documented[number] for number in told} == told


def test_the_exit_statuses_of_the_other_programs_are_theirs() -> None:
    assert set(statuses("updated")) == {
        daemon.DONE, daemon.FAILED, daemon.USAGE, daemon.WAITING, updated_program.INTERRUPTED,
    }
    assert set(statuses("updated-health")) == {
        *health_exits.EXIT_OF.values(), health_exits.EXIT_USAGE, health_exits.EXIT_BOOT_REFERENCE,
        health_exits.EXIT_STAYS,
    }
    assert set(statuses("releasectl")) == {
        releasectl.OK, releasectl.FAILED, releasectl.USAGE, releasectl.NEGLECTED, 130,
    }


def literals(call: str) -> set[str]:
    """The first argument of each `call("...")` in the core."""
    sources = "".join(path.read_text() for path in (ROOT / "updated/core").glob("*.py"))
    return set(re.findall(rf"\b{call}\(\s*\"([a-z-]+)\"", sources))


def test_every_reason_to_wait_is_explained_and_no_other() -> None:
    assert {code for code, _ in rows(section(OPERATING.read_text(), "Reasons"))} == literals("Reason")


def test_every_kind_of_history_is_named() -> None:
    text = section((FOLDER / "formats.md").read_text(), "History")
    kinds = re.search(r"The kinds:(.*)", text, re.DOTALL)
    assert kinds is not None
    assert set(re.findall(r"`([a-z-]+)`", kinds[1])) == literals("Record")


def phases_of(cell: str) -> Iterator[str]:
    yield from re.findall(r"[a-z-]+", cell)


def test_every_phase_is_explained_also_what_a_reboot_does_in_it() -> None:
    phases = {phase.value for phase in Phase}
    assert {name for name, *_ in rows(section((FOLDER / "states.md").read_text(), "Phases"))} == phases
    reboot = rows(section(OPERATING.read_text(), "A reboot by hand"))
    assert {name for cell, *_ in reboot for name in phases_of(cell)} == phases


def test_every_type_of_check_is_documented_with_its_keys_and_the_pace() -> None:
    text = section((FOLDER / "health.md").read_text(), "Checks")
    documented = {row[0]: set(re.findall(r"\w+", row[2])) for row in rows(text) if row[0] in checkfile.TYPES}
    assert documented == {name: set(checkfile.described(name).readers) for name in checkfile.TYPES}
    assert f"one of {len(checkfile.TYPES)} types" in README.read_text()
    for key in checkfile.PACE:
        assert re.search(rf"`{key}` \({getattr(Pace(), key):g}\b", text), key
    for key in checkfile.MANNER:
        assert re.search(rf"`{key} = ", text), key


def test_every_verdict_is_explained() -> None:
    text = section(OPERATING.read_text(), "Health checks")
    named = {name for row in rows(text) for name in phases_of(row[0])}
    assert set(get_args(judgement.Verdict)) <= named


def schema_keys(title: str) -> set[str]:
    text = section((FOLDER / "formats.md").read_text(), title)
    return {key for row in rows(text) for key in re.findall(r"\w+", row[0])}


def test_every_key_of_the_status_is_in_its_schema() -> None:
    fault = UpdatedError("disk-full", "the disk", "is full", "Free some space.")
    assert schema_keys("Status") == set(status.fault_document(fault, 0))
    written = re.findall(r"^        \"(\w+)\":", inspect.getsource(status.status_document), re.MULTILINE)
    assert schema_keys("Status") == set(written)


def test_every_key_of_the_verdict_is_in_its_schema() -> None:
    record = Record("a", None, None, judgement.Judgement("healthy"), "", "", ())
    assert schema_keys("Verdict") == set(record.document)


def test_every_key_of_the_baseline_is_in_its_schema() -> None:
    assert schema_keys("Baseline") == set(baseline.document("a", None, None, None, "", ()))


# ------------------------------------------------------------------------------------------------------------ links


def anchors(document: Path) -> set[str]:
    """The anchors that a Markdown viewer gives to the headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link}: there is no such file"
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"
