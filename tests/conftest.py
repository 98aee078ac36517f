"""Options for what takes too long to be the default."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `make powercut`, and of the files that a person has looked at."""
    parser.addoption("--every-cut", action="store_true", help="boot the real loaders from every cut, and no sample")
    parser.addoption("--write-table", action="store_true", help="write the table of packaging/doc/crash-model.md")
    parser.addoption("--write-golden", action="store_true", help="write what updatectl shows to tests/cli/golden")
