"""The state of the node for Prometheus: on HTTP at a loopback address, on a unix socket, or in a textfile.

Metrics are declared beside the one place that sets them. `packaging/doc/metrics.md` documents each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bootctl import durable
from updated.core.document import parse_time
from updated.core.effects import Record
from updated.core.errors import UpdatedError
from updated.core.probation import probation_text
from updated.core.state import Phase, State
from updated.core.status import Progress

log = logging.getLogger("updated")
disable_created_metrics()  # type: ignore[no-untyped-call]
# What downloaded bytes of an image are of.
_SOURCES = ("blob", "patch", "index")


class Metrics:
    """Listens to the engine, and keeps the registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._staged_at = 0.0

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"updated_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"updated_{name}", text, labels, registry=self.registry)

        self._phase = gauge("phase", "1 for the phase that the node is in.", "phase")
        self._os = gauge("os_info", "The version that runs, its slot and channel.", "version", "slot", "channel")
        self._slot = gauge("slot_info", "What each slot holds.", "slot", "version", "state")
        self._tries = gauge("slot_tries_left", "Trial boots that are left.", "slot")
        self._successful = gauge("slot_successful", "Whether the slot is confirmed.", "slot")
        self._enabled = gauge("updates_enabled", "Whether updates are switched on.")
        self._waits = gauge("waiting", "1 for each reason why the node does not update now.", "reason")
        self._wave = gauge("wave_eligible_timestamp_seconds", "When the next release comes to this node, or 0.")
        self._denied = gauge("denylisted_versions", "Releases that are not tried here again.")
        self._last_check = gauge("last_check_timestamp_seconds", "When the channel was last read.")
        self._change = gauge("latest_state_change_timestamp_seconds", "When the phase last changed.")
        self._boot = gauge("boot_confirmed_timestamp_seconds", "When the running slot was confirmed.")
        self._staged_age = gauge("staged_age_seconds", "How long a release is staged, or 0.")
        self._staged_age.set_function(lambda: time.time() - self._staged_at if self._staged_at else 0.0)
        self._expiry = gauge("tuf_metadata_expiry_timestamp_seconds", "When the metadata expires.", "role")
        self._expiry_warning = gauge(
            "tuf_metadata_expiry_warning", "Whether the metadata has expired or is close to it.", "role"
        )
        self._accepted = gauge("tuf_metadata_expired_accepted", "Whether the metadata had expired, by grace.", "role")
        self._progress = gauge("step_bytes", "How far the present step is.", "step", "kind")
        self._check_result = gauge("health_check_result", "1 passed, 0 failed, by the last verdict.", "check", "kind")
        self._check_counts = gauge("health_check_counts", "Whether the check decides over the slot.", "check", "kind")
        self._verdict = gauge("health_verdict_info", "1 for the last verdict.", "verdict")
        self._probation = gauge("health_probation_until_timestamp_seconds", "When the probation ends, or 0.")
        self._check_time = gauge("health_check_duration_seconds", "How long the check took.", "check")
        self._checks = counter("update_checks", "Checks for a release that were begun.")
        self._errors = counter("errors", "Failures by their code.", "code")
        self._installs = counter("install_attempts", "Installations that were begun.")
        self._staged = counter("releases_staged", "Releases that were verified and armed.")
        self._reboots = counter("reboots", "Reboots that were asked for.")
        self._rollbacks = counter("rollbacks", "Releases that were left, by reason.", "reason")
        self._bytes = counter("download_bytes", "Bytes of images that were downloaded, by source.", "source")
        self._copied = counter("copied_bytes", "Bytes of images that were copied from the running slot.")
        self._kept = counter("in_place_bytes", "Bytes of images that were in place already.")
        self._written = counter("written_bytes", "Bytes that were written to a slot.")
        self._skipped = counter("skipped_bytes", "Bytes that were not written since the slot held them.")
        self._discarded = counter("discarded_bytes", "Bytes of zeros that were discarded instead of written.")
        for source in _SOURCES:
            self._bytes.labels(source)
        for reason in ("fell-back", "rolled-back"):
            self._rollbacks.labels(reason)

    def state_changed(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        """See `engine.Listener`."""
        now = parse_time(document["written_at"])
        for phase in Phase:
            self._phase.labels(phase.value).set(phase is after.phase)
        self._os.clear()
        self._os.labels(after.facts.version, after.facts.slot, document["channel"]).set(1)
        self._slot.clear()
        for slot in document["slots"]:
            self._slot.labels(slot["slot"], slot["version"] or "", slot["state"]).set(1)
            self._tries.labels(slot["slot"]).set(slot["tries_left"])
            self._successful.labels(slot["slot"]).set(after.facts.view.state(slot["slot"]).confirmed)
        self._enabled.set(document["enabled"])
        self._waits.clear()
        for reason in after.reasons:
            self._waits.labels(reason.code).set(1)
        self._wave.set(next((reason.until or 0 for reason in after.reasons if reason.code == "wave"), 0))
        self._show_health(document["health"])
        self._denied.set(len(after.denied))
        self._last_check.set(after.last_check or 0)
        self._expiry.clear()
        self._expiry_warning.clear()
        self._accepted.clear()
        warned = {warning["role"] for warning in document["expiry_warnings"]}
        for role, expiry in after.expiries.items():
            self._expiry.labels(role).set(expiry.at)
            self._expiry_warning.labels(role).set(role in warned)
            self._accepted.labels(role).set(expiry.accepted)
        if after.phase is not before.phase:
            self._change.set(now)
            if after.phase is Phase.CHECKING:
                self._checks.inc()
            if before.phase is Phase.FETCHING and after.phase is Phase.SEALING:
                for component in document["last_install"]["components"].values():
                    for source in _SOURCES:
                        self._bytes.labels(source).inc(component[source])
                    self._copied.inc(component["copied"])
                    self._kept.inc(component["in_place"])
                    self._written.inc(component["written"])
                    self._skipped.inc(component["skipped"])
                    self._discarded.inc(component["discarded"])
        if after.phase is not Phase.STAGED:
            self._staged_at = 0.0
        if after.error is not None and after.error is not before.error:
            self._errors.labels(after.error.code).inc()
        if document["progress"] is None:
            self._progress.clear()

    def _show_health(self, health: Mapping[str, Any] | None) -> None:
        for gauge in (self._check_result, self._check_counts, self._check_time, self._verdict):
            gauge.clear()
        self._probation.set(0)
        if health is None:
            return
        self._verdict.labels(str(health["verdict"])).set(1)
        if probation_text(health) and health["probation_until"]:
            self._probation.set(parse_time(health["probation_until"]))
        for check in health["checks"]:
            self._check_result.labels(check["name"], check["kind"]).set(check["result"] in ("pass", "skip"))
            self._check_counts.labels(check["name"], check["kind"]).set(check["counts"])
            self._check_time.labels(check["name"]).set(check["duration_seconds"])

    def progressed(self, progress: Progress) -> None:
        """See `engine.Listener`."""
        self._progress.labels(progress.step, "done").set(progress.done)
        self._progress.labels(progress.step, "total").set(progress.total)

    def happened(self, effect: Record) -> None:
        """See `engine.Listener`."""
        match effect.kind:
            case "install":
                self._installs.inc()
            case "staged":
                self._staged.inc()
                self._staged_at = time.time()
            case "reboot":
                self._reboots.inc()
            case "fell-back" | "rolled-back":
                self._rollbacks.labels(effect.kind).inc()
            case "confirmed":
                self._boot.set_to_current_time()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("metrics: %s", format % args)

    def address_string(self) -> str:
        return "local"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16


class _Server6(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(str(self.server_address))
        socketserver.TCPServer.server_bind(self)
        os.chmod(str(self.server_address), 0o660)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = self.socket.accept()
        return connection, ("local", 0)


def serve(metrics: Metrics, listen: str) -> Callable[[], None]:
    """Publishes `metrics` where `listen` says; the function that ends it. To be called within the event loop.

    Raises `UpdatedError` ("bad-config") when the place can't be had.
    """
    kind, _, place = listen.partition(":")
    if listen == "off":
        return lambda: None
    if kind == "textfile":
        return _keep_textfile(metrics, place)
    try:
        if kind == "unix":
            os.makedirs(os.path.dirname(place), exist_ok=True)
            server: _Server = _UnixServer(place, _Handler)  # type: ignore[arg-type]
        else:
            host, _, port = listen.rpartition(":")
            family = _Server6 if host.startswith("[") else _Server
            server = family((host.strip("[]"), int(port)), _Handler)
    except OSError as error:
        raise UpdatedError(
            "bad-config", f"the metrics at {listen}", error.strerror or str(error),
            "Choose another place in [metrics] listen, or end what listens there.",
        ) from None
    server.set_app(_application(metrics))
    # The event loop waits for connections: `serve_forever` would look at a flag twice a second.
    server.socket.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(server.fileno(), server.handle_request)

    def stop() -> None:
        loop.remove_reader(server.fileno())
        server.server_close()

    return stop


def _application(metrics: Metrics) -> Callable[[Mapping[str, Any], Callable[..., Any]], list[bytes]]:
    def application(environment: Mapping[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environment.get("PATH_INFO") != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The metrics are at /metrics.\n"]
        start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [metrics.text()]

    return application


TEXTFILE_SECONDS = 15.0


def _keep_textfile(metrics: Metrics, path: str) -> Callable[[], None]:
    ended = threading.Event()

    def write() -> None:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            durable.write_file(path, metrics.text(), mode=0o644)
        except OSError as error:
            log.warning("the metrics could not be written to %s: %s", path, error)

    def keep() -> None:
        while not ended.wait(TEXTFILE_SECONDS):
            write()
        write()

    write()
    thread = threading.Thread(target=keep, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop
