"""An update that is cut anywhere ends by itself with the new slot confirmed, whatever the loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.subjects import SUBJECTS
from tests.crash.sweep import OPERATIONS, Subject, converges, cuts


@pytest.mark.parametrize("name", ["invalidate", "arm", "confirm"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_a_machine_gets_on_from_each_cut_of_an_update(folder: Path, subject: Subject, name: str) -> None:
    room = folder / "loader/entries"
    room.mkdir(parents=True)
    states = 0
    for state in cuts(subject, room, OPERATIONS[name]):
        assert converges(subject, room, state)
        states += 1
    assert states > 1
