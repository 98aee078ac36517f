"""The completions of bash, zsh and fish, made from the parsers; `python -m tests.documents` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.completions.bash import bash
from tests.completions.fish import fish
from tests.completions.values import NAMES
from tests.completions.zsh import zsh
from tests.documents import ROOT

FOLDER = ROOT / "packaging/completions"
SHELLS: Mapping[str, Callable[[str], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def write() -> None:
    """Writes all completions anew."""
    for name in NAMES:
        for shell, made in SHELLS.items():
            (FOLDER / f"{name}.{shell}").write_text(made(name))
