"""Downloaders whose limits of time are a fraction of the real ones: the same code, which gives up sooner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from updated import children, http, mirrors

SECONDS = 0.2
"""How long the server may be silent, and over which time its rate is measured."""
LONGEST_PAUSE = 0.02
SILENCE_SECONDS = 4.0
"""How long the daemon waits for a word of its child."""
_FOLDER = Path(__file__).parent / "hurried"


@contextmanager
def hurried() -> Iterator[None]:
    """In this block, children that are started are in a hurry: `hurried/sitecustomize.py` sees to it."""
    path = os.pathsep.join(filter(None, [str(_FOLDER), os.environ.get("PYTHONPATH")]))
    with (
        mock.patch.dict(os.environ, {"PYTHONPATH": path}),
        mock.patch.object(children, "SILENCE_SECONDS", SILENCE_SECONDS),
    ):
        yield


def hurry() -> None:
    """Shortens the limits of this process, which is a downloader."""
    settings = {"read_timeout": SECONDS, "window_seconds": SECONDS, "longest_pause": LONGEST_PAUSE}
    init = http.HttpSettings.__init__
    defaults = dict(zip(http.HttpSettings.__dataclass_fields__, init.__defaults__ or (), strict=True))
    init.__defaults__ = tuple({**defaults, **settings}.values())
    mirrors.LONGEST_PAUSE = LONGEST_PAUSE
