"""A real Prometheus on a free port of the loopback interface, for as long as a block lasts."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULES = Path(__file__).parent.parent.parent / "packaging/prometheus/updated.rules.yml"


@dataclass
class Prometheus:
    """A server that scrapes each second. `url` ends in a slash."""

    url: str

    def api(self, path: str, **parameters: str) -> Any:
        """The data of an answer of `/api/v1`. Raises AssertionError with what is wrong, such as with a query."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}api/v1/{path}?{query}", timeout=10) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: labels in `metric`, the value behind the time in `value`."""
        result: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return result

    def wait_for(self, expression: str, seconds: float = 30) -> list[dict[str, Any]]:
        """What a query gives, once it gives something."""
        return self.wait_until(lambda: self.query(expression), seconds, expression)

    def wait_until(self, found: Callable[[], list[dict[str, Any]]], seconds: float, what: str) -> list[dict[str, Any]]:
        """What `found` gives, once it gives something. Raises AssertionError when it does not."""
        end = time.monotonic() + seconds
        while not (result := found()):
            assert time.monotonic() < end, f"Prometheus has nothing for {what} after {seconds} seconds"
            time.sleep(0.2)
        return result

    def rules(self, kind: str) -> list[dict[str, Any]]:
        """The rules that are loaded, of `kind` "alert" or "record"."""
        groups = self.api("rules", type=kind)["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self.url}-/ready", timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def serve(folder: Path, targets: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Prometheus with the rules of the project; it keeps its data below `folder`.

    `targets` is a `static_configs` of the job "updated". Raises RuntimeError, with what it said, when it does not
    start.
    """
    if shutil.which("prometheus") is None:
        raise RuntimeError("prometheus is missing; packaging/install-system-packages installs it")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "prometheus.yml"
    # JSON is YAML.
    config.write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "updated", "static_configs": targets}],
    }))  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h",
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)
        try:
            server = Prometheus(f"http://127.0.0.1:{port}/")
            end = time.monotonic() + 30
            while not server.ready():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"prometheus does not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    shutil.rmtree(folder / "data", ignore_errors=True)
