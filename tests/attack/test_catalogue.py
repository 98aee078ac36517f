"""Each attack of the TUF specification has its module here, and none has no test."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.documents import FOLDER, rows, section

THREATS = FOLDER / "threat-model.md"

# TUF specification 1.0.33, section 1.5.2, in its order.
ATTACKS = {
    "Arbitrary software installation": "arbitrary_software",
    "Endless data attack": "endless_data",
    "Extraneous dependencies attack": "extraneous_dependencies",
    "Fast-forward attack": "fast_forward",
    "Indefinite freeze attack": "freeze",
    "Malicious mirrors preventing updates": "malicious_mirror",
    "Mix-and-match attack": "mix_and_match",
    "Rollback attack": "rollback",
    "Slow retrieval attack": "slow_retrieval",
    "Vulnerability to key compromises": "stolen_keys",
    "Wrong software installation": "wrong_software",
}
OURS = {"A clock that is set": "clock", "A downloader that was taken over": "store"}


@pytest.mark.parametrize("attack", [*ATTACKS, *OURS])
def test_each_attack_is_staged(attack: str) -> None:
    name = {**ATTACKS, **OURS}[attack]
    module = importlib.import_module(f"tests.attack.test_{name}")
    assert any(each.startswith("test_") for each in vars(module))
    assert module.__doc__


def test_the_threat_model_names_them_all() -> None:
    named = [row[-1].strip("`") for row in rows(section(THREATS.read_text(), "The attacks that TUF names"))]
    assert set(named) == {f"test_{name}.py" for name in ATTACKS.values()}


def test_each_module_belongs_to_an_attack() -> None:
    modules = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert modules == {*ATTACKS.values(), *OURS.values(), "catalogue"}
