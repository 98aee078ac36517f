"""What the manual quotes of the status is what a person sees."""

from __future__ import annotations

import re
from datetime import datetime

from tests.cli.test_golden import shown
from tests.documents import FOLDER
from updated.cli.paper import Paper
from updated.cli.when import with_local_times
from updated.core.expiry import DAY, Expiry, notices

OPERATING = (FOLDER / "operating.md").read_text()


def test_the_example_of_a_status_is_what_the_program_prints() -> None:
    assert f"```\n{shown('staged', Paper())}\n```\n" in OPERATING


def test_the_example_of_an_expiry_is_what_the_program_prints() -> None:
    at = int(datetime.fromisoformat("2026-11-23T10:05:26Z").timestamp())
    now = at - 2 * DAY - 60
    [notice] = notices({"stable": Expiry(at)}, now, 7 * DAY)
    assert f"  Expiry:  {with_local_times(notice.text, now)}\n" in OPERATING


def test_a_quoted_status_has_the_times_of_the_zone() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", OPERATING, re.MULTILINE | re.DOTALL)
    quoted = [text for language, text in blocks if not language]
    assert any("Expiry:" in text for text in quoted)
    for text in quoted:
        assert re.search(r"\dT\d\d:\d\d:\d\dZ", text) is None, text
