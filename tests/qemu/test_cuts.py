"""States that a power cut left, started by the real loaders: what boots is what the back-end foretells."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootctl import durable
from bootctl.model import next_boot
from tests.crash.recorder import Folder, lay_out, recorded
from tests.crash.sweep import OPERATIONS, Operation
from tests.qemu.loaders import GrubLoader, Loader, SystemdBootLoader, UBootLoader, boot_each

# In every run of the tests these cuts alone, counted from the first one.
_SAMPLE = (1, -2)


def states(loader: Loader, operation: Operation) -> list[Folder]:
    """What each cut of `operation` leaves on a FAT file system."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "filesystem_magic", lambda fd: durable.FAT_MAGIC)
        folder = Path(root, loader.inside)
        folder.mkdir(parents=True)
        lay_out(folder, dict(loader.new()))
        backend = loader.backend(Path(root))
        backend.commit(operation.before)
        with recorded(folder) as log:
            backend.commit(operation.transition(backend.read()))
        return list(log.cuts(torn_renames=True))


def foretold(loader: Loader, state: Folder) -> str | None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, loader.inside)
        folder.mkdir(parents=True)
        lay_out(folder, state)
        return next_boot(loader.backend(Path(root)).read())[0]


@pytest.mark.parametrize("name", ["invalidate", "arm", "confirm", "reject", "roll back"])
@pytest.mark.parametrize("loader", [GrubLoader(), SystemdBootLoader(), UBootLoader()], ids=type)
def test_the_real_loader_starts_what_the_back_end_foretells(
    request: pytest.FixtureRequest, loader: Loader, name: str
) -> None:
    cuts: Sequence[Folder] = states(loader, OPERATIONS[name])
    assert len(cuts) > 1
    if not request.config.getoption("--every-cut"):
        if name != "arm":
            pytest.skip("one operation in each run of the tests; all of them with --every-cut")
        cuts = [cuts[at] for at in _SAMPLE]
    started = [booted.slot for booted, _ in boot_each(loader, cuts)]
    assert started == [foretold(loader, state) for state in cuts]
    assert None not in started
