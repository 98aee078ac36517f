"""Bundles as `releasectl bundle` makes them, for tests of who reads them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def bundle_of(files: Mapping[str, bytes]) -> bytes:
    """A bundle with `files`, by name."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def make_bundle(repository: Path, path: Path) -> Path:
    """The bundle `path` with all files of a repository."""
    files = sorted(each for each in repository.rglob("*") if each.is_file())
    names = [str(each.relative_to(repository)) for each in files]
    kept = ("metadata/", "targets/", "blobs/")
    path.write_bytes(bundle_of({n: f.read_bytes() for n, f in zip(names, files, strict=True) if n.startswith(kept)}))
    return path
