"""What the tests of hostile repositories share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.world import STABLE, World
from updated.core.errors import UpdatedError

ROLES = ["root", "timestamp", "snapshot", "targets", "stable"]


def state(folder: Path) -> dict[str, bytes]:
    """The store without what says nothing: the lock, and the link for people."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "lock"
    }


def refused(world: World, **how: object) -> UpdatedError:
    with pytest.raises(UpdatedError) as caught, world.cycle(**how) as trust:  # type: ignore[arg-type]
        trust.target(STABLE, 100)
    return caught.value


def next_file(world: World, role: str) -> str:
    """The publisher changes all roles; the name of the new file of `role`."""
    world.repository.rotate_key("root")
    world.repository._dirty |= {"targets", "stable"}
    world.repository.publish()
    return world.repository.metadata_name(role)
