"""A publisher, a server and a client for the tests of the conformance client."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.fakes.repository import RepositorySimulator

CLIENT = Path(__file__).with_name("client")


class Server(ThreadingHTTPServer):
    """Serves a folder; a name in a URL is that of a file to the letter. `names`: what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        names: list[str] = []
        self.names = names

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                names.append(self.path.removeprefix("/"))
                file = folder / names[-1]
                if not file.is_file():
                    self.send_error(404)
                    return
                data = file.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Bench:
    """A publisher, its server, and a client that was initialized with the first root."""

    def __init__(self, folder: Path) -> None:
        self.now = int(time.time())
        self.folder = folder
        self.repository = RepositorySimulator(folder / "repository", now=self.now, channels=())
        self.metadata = folder / "metadata"
        self.downloads = folder / "downloads"
        self.metadata.mkdir()
        self.downloads.mkdir()
        self.server = Server(folder / "repository")

    def published(self) -> Bench:
        """Publishes, and initializes the client when it is the first time."""
        first = not self.repository.root_of_trust
        self.repository.publish()
        if first:
            root = self.folder / "root.json"
            root.write_bytes(self.repository.root_of_trust)
            assert self.run("--metadata-dir", str(self.metadata), "init", str(root)) == 0
            assert self.server.names == []
        return self

    def run(self, *arguments: str, at: int | None = None) -> int:
        faked = ["faketime", datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")] if at else []
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        command = [*faked, str(CLIENT), *arguments]
        done = subprocess.run(
            command, cwd="/", env=environment, timeout=120, check=False, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    def refresh(self, at: int | None = None) -> int:
        places = ("--metadata-dir", str(self.metadata), "--metadata-url", f"{self.server.url}/metadata/")
        return self.run(*places, "refresh", at=at)

    def download(self, *paths: str, at: int | None = None) -> int:
        names = [argument for path in paths for argument in ("--target-name", path)]
        return self.run(
            "--metadata-dir", str(self.metadata), "--metadata-url", f"{self.server.url}/metadata", *names,
            "--target-base-url", f"{self.server.url}/targets/", "--target-dir", str(self.downloads), "download", at=at,
        )  # fmt: skip

    def trusted(self) -> dict[str, int]:
        """The versions of the metadata that the client holds, by the names of its files."""
        files = sorted(self.metadata.glob("*.json"))
        return {file.name: json.loads(file.read_bytes())["signed"]["version"] for file in files}

    def downloaded(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.downloads.rglob("*") if path.is_file())

    def add(self, path: str, data: bytes, role: str = "targets") -> None:
        self.repository.sign_target(role, path, data)
