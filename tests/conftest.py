"""Options for what takes too long to be the default."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `make powercut`."""
    parser.addoption("--every-cut", action="store_true", help="boot the real loaders from every cut, and no sample")
    parser.addoption("--write-table", action="store_true", help="write the table of packaging/doc/crash-model.md")
