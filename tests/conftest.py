"""Options for what takes too long to be the default; and time for what is slow on a busy machine."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes says more of the machine than of the code.
settings.register_profile("without-deadline", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("without-deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `make powercut`, `make e2e`, `make e2e-powercut`, and of the files that a person has looked at."""
    parser.addoption("--every-cut", action="store_true", help="boot the real loaders from every cut, and no sample")
    parser.addoption(
        "--e2e", choices=("no", "ci", "all"), default="ci", help="which tests boot the machine image (default: ci)"
    )
    parser.addoption("--write-table", action="store_true", help="write the table of packaging/doc/crash-model.md")
    parser.addoption("--write-golden", action="store_true", help="write what updatectl shows to tests/cli/golden")
