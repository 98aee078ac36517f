"""Lets a test put a module of its own in the place of one of ours, in one kind of child of a real daemon.

The daemon is as it is shipped: Python itself imports `sitecustomize` at its start, from the path that the test sets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_CUSTOMIZE = """\
import importlib.util, os, sys

child, module, file = os.environ["STAND_IN"].split(":")


class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, file) if name == module else None


if child in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
"""


def stand_in(folder: Path, child: str, module: str, file: Path, *path: Path) -> Mapping[str, str]:
    """The environment in which `updated CHILD` takes `file` for `module`; `path` is for imports.

    As the module `updated.child`, it runs instead of all of ours; as `updated.fetch` or `updated.seal`, confined.
    """
    (folder / "sitecustomize.py").write_text(_CUSTOMIZE)
    places = [str(each) for each in (folder, *path)] + os.environ.get("PYTHONPATH", "").split(":")
    return {"STAND_IN": f"{child}:{module}:{file}", "PYTHONPATH": ":".join(filter(None, places))}
