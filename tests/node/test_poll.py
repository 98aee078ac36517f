"""What a poll costs on the wire, as the web server counts it."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import nginx
from tests.node.test_once import once
from tests.node.world import Publisher, make_machine

MOST_BYTES = 2048


def requests(log: Path) -> list[tuple[str, int]]:
    """The path and the bytes of each answer since the last call."""
    lines = log.read_text().splitlines()
    log.write_text("")
    return [(path, int(sent)) for path, sent in (line.split() for line in lines)]


def test_a_poll_without_news_is_one_small_request(tmp_path: Path, publisher: Publisher) -> None:
    log = tmp_path / "access.log"
    with (
        nginx.serve(publisher.repository, more=f"access_log {log} sent;") as url,
        make_machine(tmp_path / "machine", publisher, url) as machine,
    ):
        once(machine)
        assert len(requests(log)) > 1
        once(machine)
        ((path, sent),) = requests(log)
        assert path == "/metadata/timestamp.json"
        assert sent < MOST_BYTES

        publisher.release("1.1.0")
        once(machine)
        assert machine.power_on() == "b"
        once(machine)
        requests(log)
        once(machine)
        ((path, sent),) = requests(log)
        assert path == "/metadata/timestamp.json"
        assert sent < MOST_BYTES
