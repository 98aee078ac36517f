"""A node's view of a repository: the real TUF client, fed from the folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from updated.core.release import Channel, Release, channel_target, release_target


class DirectoryFetcher(FetcherInterface):
    """Answers as a web server of the folder would."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("file://")
        if not os.path.isfile(path):
            raise DownloadHTTPError("not found", 404)
        yield Path(path).read_bytes()


class Client:
    """A fresh client that trusts `root`; its cache lives on from one refresh to the next."""

    def __init__(self, repository: Path, root: bytes) -> None:
        self._repository = repository
        self._root = root
        self._cache = tempfile.mkdtemp()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._cache)

    def fetch(self, *targets: str) -> list[bytes]:
        """Refreshes, then downloads the targets; raises what the TUF client raises."""
        metadata = os.path.join(self._cache, "metadata")
        downloads = os.path.join(self._cache, "targets")
        os.makedirs(metadata, exist_ok=True)
        os.makedirs(downloads, exist_ok=True)
        updater = Updater(
            metadata, f"file://{self._repository}/metadata/", downloads, f"file://{self._repository}/targets/",
            DirectoryFetcher(), bootstrap=self._root,
        )  # fmt: skip
        updater.refresh()
        found = []
        for target in targets:
            info = updater.get_targetinfo(target)
            if info is None:
                raise LookupError(target)
            found.append(Path(updater.download_target(info)).read_bytes())
        return found

    def channel(self, name: str) -> Channel:
        return Channel.parse(self.fetch(channel_target(name))[0])

    def release(self, version: str) -> Release:
        return Release.parse(self.fetch(release_target(version))[0])
