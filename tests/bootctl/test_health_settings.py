"""The table [health]: what is left out has its default, and what can't be is told with its place."""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.health_settings import RANGES, HealthSettings, health_settings
from bootctl.settings import ConfigError, Layered, load

FILE = "etc/updated/updated.toml"


def read(root: Path, text: str) -> HealthSettings:
    (root / FILE).parent.mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(text)
    return health_settings(load(str(root)))


def test_without_the_table_everything_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == HealthSettings()


def test_a_value_is_taken_and_the_others_keep_their_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "[health]\nprobation_seconds = 0\ngreenboot = false\n")
    assert found == HealthSettings(probation_seconds=0, greenboot=False)


def test_each_default_is_one_that_would_be_accepted() -> None:
    assert health_settings(Layered({"health": asdict(HealthSettings())}, {})) == HealthSettings()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("probation = 5", "health.probation: there is no such key"),
        ("probation_seconds = -1", "health.probation_seconds: -1 is not accepted. Give a whole number from 0 to 86400"),
        ("probation_seconds = true", "health.probation_seconds: true is not accepted"),
        ("probation_seconds = 1.0", "health.probation_seconds: 1.0 is not accepted"),
        ("probation_interval_seconds = 0", "health.probation_interval_seconds: 0 is not accepted"),
        ("deadline_seconds = '15min'", "health.deadline_seconds: \"15min\" is not accepted"),
        ("reboots_per_day = 0", "health.reboots_per_day: 0 is not accepted"),
        ("greenboot = 1", "health.greenboot: 1 is neither true nor false"),
    ],
)
def test_what_can_not_be_is_told_with_file_line_and_key(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[health]\n{line}\n")
    assert words in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / FILE), 2)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="health: it is no table"):
        read(tmp_path, "health = 5\n")


@given(st.dictionaries(st.sampled_from(sorted(RANGES)), st.integers(-10, 100000)))
def test_a_number_is_accepted_exactly_within_its_range(values: dict[str, int]) -> None:
    layered = Layered({"health": values}, {})
    if all(least <= values[key] <= most for key, (least, most) in RANGES.items() if key in values):
        assert {key: getattr(health_settings(layered), key) for key in values} == values
    else:
        with pytest.raises(ConfigError):
            health_settings(layered)
