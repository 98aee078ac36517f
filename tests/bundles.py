"""Bundles as `releasectl bundle` makes them, for tests of who reads them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def bundle_of(files: Mapping[str, bytes]) -> bytes:
    """A bundle with `files`, by name."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()
