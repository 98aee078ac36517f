"""Nodes in several states, as their metrics show them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from bootctl.model import BootView, SlotState
from updated.core.document import format_time
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import LastInstall
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target
from updated.core.status import Progress, Report, status_document
from updated.core.surroundings import Grace
from updated.core.windows import Window, Windows
from updated.metrics import CONTENT_TYPE, Metrics

GOOD, TRIAL, EMPTY = SlotState(1, 0, True), SlotState(2, 3, False), SlotState()
COMPONENT: Mapping[str, int | str] = {
    "plan": "", "image": 900, "in_place": 100, "copied": 200, "downloaded": 600, "blob": 400, "patch": 150,
    "index": 50, "written": 700, "skipped": 80, "discarded": 20,
}  # fmt: skip
INSTALLED = LastInstall("1.1.0", 12.5, 1, {"rootfs": COMPONENT})
BASE = first_state(BootFacts("a", "1.0.0", "boot", BootView((("a", GOOD), ("b", EMPTY)))), 0.5)
TARGET = Target("1.1.0", "f" * 64, "b")


def shown(metrics: Metrics, before: State, after: State, **rest: Any) -> Metrics:
    """`metrics` after a change of the state. `rest`: `now`, the `policy`, `last_install`, the fields of the report."""
    after = after.with_changes(last_install=rest.pop("last_install", None))
    now, policy = int(rest.pop("now", time.time())), rest.pop("policy", Policy())
    metrics.state_changed(before, after, status_document(after, policy, Report(**rest), now))
    return metrics


def verdict(kind: str, *checks: tuple[str, str, str], until: str | None = None) -> dict[str, Any]:
    """A verdict of this boot; each check has a name, a kind and a result."""
    return {
        "slot": "a", "version": "1.0.0", "verdict": kind, "reason": None, "finished": format_time(time.time() - 60),
        "this_boot": True, "baseline": None, "probation_until": until,
        "checks": [
            {
                "name": name, "kind": what, "result": result, "duration_seconds": 0.5, "output": "",
                "counts": what == "required", "before": None, "note": None,
            }
            for name, what, result in checks
        ],
    }  # fmt: skip


def fleet() -> Mapping[str, Metrics]:
    """Metrics by the name of a node."""
    now = int(time.time())
    roles = ("root", "timestamp", "snapshot", "targets", "releases", "stable")
    base = BASE.with_changes(
        last_check=now - 600, next_check=now + 3000, expiries={role: Expiry(now + 3 * 86400) for role in roles}
    )
    good = verdict("healthy", ("web", "required", "pass"), ("ntp", "wanted", "fail"))
    night = Policy(reboots=Windows((Window(start=120, minutes=60),)))

    both = BootView((("a", GOOD), ("b", SlotState(2, 0, True))))
    current = base.with_changes(
        facts=replace(base.facts, slot="b", version="1.1.0", view=both),
        reasons=(Reason("up-to-date", ""),), reboots_took=(95,),
    )
    fetching = base.with_changes(phase=Phase.FETCHING, target=TARGET, offer=Offer("1.1.0", "f" * 64, 900))
    staged = base.with_changes(
        facts=replace(base.facts, view=BootView((("a", GOOD), ("b", TRIAL)))), phase=Phase.STAGED,
        target=replace(TARGET, tries=3, staged=now - 7200), grace=Grace("1.1.0", now + 300),
        reasons=(Reason("users", "", now + 300),),
    )
    fallen = base.with_changes(
        phase=Phase.FALLEN_BACK, fallback=Fallback("1.1.0", "web failed", now - 900),
        denied=(Denial("1.1.0", "f" * 64, "web failed", now - 900),), reasons=(Reason("denied", ""),),
    )
    unreachable = UpdatedError("unreachable", "the server", "does not answer", "See the network.")
    failed = base.with_changes(
        phase=Phase.FAILED, failures=6, error=unreachable, hold=Hold("ann", now + 86400),
        expiries={"stable": Expiry(now - 60, accepted=True)}, reasons=(Reason("wave", "", now + 9000),),
        recalled={"1.0.0": "it burns"},
    )

    nodes = {name: Metrics() for name in ("current", "fetching", "staged", "fallen", "failed")}
    shown(nodes["current"], base, current, health=good, policy=night)
    nodes["current"].happened(Record("confirmed", "1.1.0", ""))
    nodes["fetching"].happened(Record("install", "1.1.0", ""))
    shown(nodes["fetching"], base, fetching, health=good)
    nodes["fetching"].progressed(Progress("download", "rootfs", 300, 900, 150.0))
    shown(nodes["staged"], fetching, fetching.with_changes(phase=Phase.SEALING), last_install=INSTALLED)
    nodes["staged"].happened(Record("staged", "1.1.0", ""))
    shown(nodes["staged"], fetching.with_changes(phase=Phase.SEALING), staged, health=good, last_install=INSTALLED)
    nodes["fallen"].happened(Record("fell-back", "1.1.0", ""))
    shown(nodes["fallen"], base, fallen, health=verdict("sick", ("web", "required", "fail")))
    shown(nodes["failed"], base, failed, health=good)
    return nodes


@contextmanager
def served(nodes: Mapping[str, Metrics]) -> Iterator[list[dict[str, Any]]]:
    """Shows each node on loopback; what Prometheus takes as `static_configs`, with the name as `instance`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = nodes[self.path.rpartition("/")[2]].text()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            place = f"127.0.0.1:{server.server_port}"
            yield [
                {"targets": [place], "labels": {"__metrics_path__": f"/{name}", "instance": name}} for name in nodes
            ]
        finally:
            server.shutdown()
            thread.join()
