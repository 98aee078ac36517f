"""The state of the node for Prometheus.

Metrics are declared beside the one place that sets them. `packaging/doc/metrics.md` documents each.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from updated.core.document import parse_time
from updated.core.effects import Record
from updated.core.probation import probation_text
from updated.core.state import Phase, State
from updated.core.status import Progress

disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE = CONTENT_TYPE_LATEST
# What downloaded bytes of an image are of.
_SOURCES = ("blob", "patch", "index")
# Reasons come from the downloader too, which may make them up: so many become a label, the others share one.
MOST_REASONS = 40
_INSTALLING = (Phase.FETCHING, Phase.SEALING)


class Metrics:
    """Listens to the engine, and keeps the registry. `text` may be called in any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._staged_at = 0
        self._storage_fault: Any = None
        self._reasons: dict[str, str] = {}
        self._waiting: tuple[str, ...] = ()
        self._waited_until = time.monotonic()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"updated_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"updated_{name}", text, labels, registry=self.registry)

        self._build = gauge("build_info", "1; the version of updated, and of its Python.", "version", "python")
        self._build.labels(_own_version(), ".".join(map(str, sys.version_info[:3]))).set(1)
        self._started = gauge("start_timestamp_seconds", "When the daemon started.")
        self._started.set_to_current_time()
        self._config_good = gauge(
            "config_last_reload_successful", "Whether the configuration was accepted when it was last read."
        )
        self._config_good.set(1)
        self._config_read = gauge(
            "config_last_reload_success_timestamp_seconds", "When a configuration was last accepted."
        )
        self._config_read.set_to_current_time()

        self._phase = gauge("phase", "1 for the phase that the node is in, 0 for the others.", "phase")
        self._change = gauge(
            "latest_state_change_timestamp_seconds", "When the phase last changed; 0 when that was before the start."
        )
        self._os = gauge("os_info", "1; the version that runs, its slot and channel.", "version", "slot", "channel")
        self._slot = gauge("slot_info", "1; what each slot holds.", "slot", "version", "state")
        self._tries = gauge("slot_tries_left", "Trial boots that the slot has left.", "slot")
        self._successful = gauge("slot_successful", "Whether the slot is confirmed.", "slot")
        self._next = gauge("slot_next", "Whether the slot boots next.", "slot")
        self._boot = gauge(
            "boot_confirmed_timestamp_seconds",
            "When the running slot was confirmed after a trial; 0 when that was before the start.",
        )

        self._enabled = gauge("updates_enabled", "Whether updates are switched on by the configuration.")
        self._hold = gauge("hold_active", "Whether a person paused updates.")
        self._hold_until = gauge("hold_until_timestamp_seconds", "When the pause ends; 0 without a pause or an end.")
        self._waits = gauge("waiting", "1 for each reason why the node does not update now.", "reason")
        self._waited = counter("waiting_seconds", "Seconds for which a reason kept the node from an update.", "reason")
        self._wave = gauge(
            "wave_eligible_timestamp_seconds", "When the rollout of the next release reaches this node, or 0."
        )
        self._window = gauge("window_open", "Whether the maintenance windows are open; 1 without any.", "window")
        self._window_change = gauge(
            "window_change_timestamp_seconds", "When the windows open or close next; 0 when never.", "window"
        )
        self._grace = gauge(
            "users_grace_until_timestamp_seconds",
            "When the time of people who are logged in is over, and the node reboots; 0 when none runs.",
        )

        self._last_check = gauge("last_check_timestamp_seconds", "When the channel was last read with success, or 0.")
        self._next_check = gauge("next_check_timestamp_seconds", "When the channel is to be read next, or 0.")
        self._checks = counter("update_checks", "Looks at the repository that were begun.")
        self._expiry = gauge("tuf_metadata_expiry_timestamp_seconds", "When the metadata of a role expires.", "role")
        self._expiry_warning = gauge(
            "tuf_metadata_expiry_warning", "Whether the metadata has expired or is close to it.", "role"
        )
        self._accepted = gauge(
            "tuf_metadata_expired_accepted", "Whether the metadata had expired, and was accepted by grace.", "role"
        )

        self._pending = gauge("pending_release_info", "1; the release that is on its way to this node.", "version")
        self._fallback = gauge(
            "fallback_info", "1; the release that was left last, until the next one is confirmed.", "version", "reason"
        )
        self._denied = gauge("denylisted_versions", "Releases that are not tried here again.")
        self._recalled = gauge("running_recalled", "Whether the publisher recalled the release that runs.")
        self._fault = gauge("error", "1 for the error that the node has now.", "code")
        self._failures = gauge("failures_in_a_row", "Failures since something last succeeded.")
        self._errors = counter("errors", "Failures by their code.", "code")

        self._progress = gauge("step_bytes", "How far the present step is.", "step", "kind")
        self._rate = gauge("step_bytes_per_second", "How fast the present step is; 0 when not known yet.", "step")
        self._installs = counter("install_attempts", "Installations that were begun.")
        self._interrupted = counter("install_interruptions", "Installations that ended before the release was staged.")
        self._staged = counter("releases_staged", "Releases that were verified and armed.")
        self._staged_age = gauge("staged_age_seconds", "How long a release is staged, or 0.")
        self._staged_age.set_function(lambda: max(time.time() - self._staged_at, 0) if self._staged_at else 0)
        self._reboots = counter("reboots", "Reboots that were asked for.")
        self._rollbacks = counter("rollbacks", "Releases that were left, by reason.", "reason")
        self._install_time = gauge(
            "last_install_duration_seconds",
            "How long it took to fetch and write the last release; 0 when none was yet.",
        )
        self._reboot_time = gauge(
            "last_reboot_duration_seconds", "From the last command to reboot to the confirmation; 0 when not measured."
        )
        self._bytes = counter("download_bytes", "Bytes of images that were downloaded, by source.", "source")
        self._copied = counter("copied_bytes", "Bytes of images that were copied from the running slot.")
        self._kept = counter("in_place_bytes", "Bytes of images that the passive slot held already.")
        self._written = counter("written_bytes", "Bytes that were written to a slot.")
        self._skipped = counter("skipped_bytes", "Bytes that were not written, since the slot held the same.")
        self._discarded = counter("discarded_bytes", "Bytes of zeros that were discarded instead of written.")

        self._check_result = gauge(
            "health_check_result", "1 passed or skipped, 0 failed, by the last verdict.", "check", "kind"
        )
        self._check_counts = gauge("health_check_counts", "Whether the check decides over the slot.", "check", "kind")
        self._check_time = gauge("health_check_duration_seconds", "How long the check took.", "check")
        self._verdict = gauge("health_verdict_info", "1; the last verdict.", "verdict")
        self._verdict_at = gauge("health_verdict_timestamp_seconds", "When the last verdict was given, or 0.")
        self._probation = gauge(
            "health_probation_until_timestamp_seconds", "When the probation of the running slot ends, or 0."
        )
        # What may happen for the first time is 0 before: otherwise increase() would not see it.
        for source in _SOURCES:
            self._bytes.labels(source)
        for reason in ("fell-back", "rolled-back"):
            self._rollbacks.labels(reason)

    # ------------------------------------------------------------------------------------------------- the listener

    def state_changed(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        """See `audience.Listener`."""
        with self._lock:
            self._count(before, after, document)
            self._show_slots(after, document)
            self._show_waits(after, document)
            self._show_repository(after, document)
            self._show_health(document["health"])
            self._show_faults(before, after, document)
            # In a check for something newer it stays staged.
            target = after.target if after.phase in (Phase.STAGED, Phase.CHECKING, Phase.REBOOTING) else None
            self._staged_at = target.staged if target is not None else 0
            if document["progress"] is None:
                self._clear(self._progress, self._rate)

    def _clear(self, *gauges: Gauge) -> None:
        for gauge in gauges:
            gauge.clear()

    def _count(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        for phase in Phase:
            self._phase.labels(phase.value).set(phase is after.phase)
        installed = document["last_install"]
        self._install_time.set(installed["seconds"] if installed is not None else 0)
        self._reboot_time.set(after.reboots_took[-1] if after.reboots_took else 0)
        if after.phase is before.phase:
            return
        self._change.set(parse_time(document["written_at"]))
        if after.phase is Phase.CHECKING:
            self._checks.inc()
        if before.phase in _INSTALLING and after.phase not in (Phase.SEALING, Phase.STAGED):
            self._interrupted.inc()
        if before.phase is Phase.FETCHING and after.phase is Phase.SEALING:
            for component in installed["components"].values():
                for source in _SOURCES:
                    self._bytes.labels(source).inc(component[source])
                self._copied.inc(component["copied"])
                self._kept.inc(component["in_place"])
                self._written.inc(component["written"])
                self._skipped.inc(component["skipped"])
                self._discarded.inc(component["discarded"])

    def _show_slots(self, after: State, document: Mapping[str, Any]) -> None:
        self._clear(self._os, self._slot, self._tries, self._successful, self._next, self._pending, self._fallback)
        self._os.labels(after.facts.version, after.facts.slot, document["channel"]).set(1)
        for slot in document["slots"]:
            self._slot.labels(slot["slot"], slot["version"] or "", slot["state"]).set(1)
            self._tries.labels(slot["slot"]).set(slot["tries_left"])
            self._successful.labels(slot["slot"]).set(after.facts.view.state(slot["slot"]).confirmed)
            self._next.labels(slot["slot"]).set(slot["next"])
        pending = after.target if after.target is not None and after.target.slot != after.facts.slot else after.offer
        if pending is not None:
            self._pending.labels(pending.version).set(1)
        if after.fallback is not None:
            self._fallback.labels(after.fallback.version, "rolled-back" if after.fallback.by else "fell-back").set(1)
        self._denied.set(len(after.denied))
        self._recalled.set(any(each["running"] for each in document["recalled"]))

    def _show_waits(self, after: State, document: Mapping[str, Any]) -> None:
        self._settle()
        self._waiting = tuple(dict.fromkeys(self._label(reason.code) for reason in after.reasons))
        self._waits.clear()
        for code in self._waiting:
            self._waits.labels(code).set(1)
        self._wave.set(next((reason.until or 0 for reason in after.reasons if reason.code == "wave"), 0))
        self._enabled.set(document["enabled"])
        self._hold.set(document["hold"] is not None)
        self._hold_until.set(_instant(document["hold"]["until"]) if document["hold"] is not None else 0)
        for kind, window in document["windows"].items():
            self._window.labels(kind).set(window is None or window["open"])
            self._window_change.labels(kind).set(_instant(window["until"]) if window is not None else 0)
        self._grace.set(after.grace.until if after.grace is not None else 0)

    def _label(self, code: str) -> str:
        if code not in self._reasons:
            self._reasons[code] = code if len(self._reasons) < MOST_REASONS else "other"
        return self._reasons[code]

    def _settle(self) -> None:
        """Adds the time since it was last done to what the node waits for."""
        now = time.monotonic()
        for code in self._waiting:
            self._waited.labels(code).inc(now - self._waited_until)
        self._waited_until = now

    def _show_repository(self, after: State, document: Mapping[str, Any]) -> None:
        self._last_check.set(after.last_check or 0)
        self._next_check.set(_instant(document["next_check"]))
        self._clear(self._expiry, self._expiry_warning, self._accepted)
        warned = {warning["role"] for warning in document["expiry_warnings"]}
        for role, expiry in after.expiries.items():
            self._expiry.labels(role).set(expiry.at)
            self._expiry_warning.labels(role).set(role in warned)
            self._accepted.labels(role).set(expiry.accepted)

    def _show_faults(self, before: State, after: State, document: Mapping[str, Any]) -> None:
        self._failures.set(after.failures)
        self._fault.clear()
        fault = document["error"]
        if fault is not None:
            self._fault.labels(fault["code"]).set(1)
        if after.error is not None and after.error is not before.error:
            self._errors.labels(after.error.code).inc()
        # That the state can not be saved stands in no state.
        storage = None if after.error is not None and fault == after.error.to_json() else fault
        if storage is not None and storage != self._storage_fault:
            self._errors.labels(storage["code"]).inc()
        self._storage_fault = storage

    def _show_health(self, health: Mapping[str, Any] | None) -> None:
        self._clear(self._check_result, self._check_counts, self._check_time, self._verdict)
        self._probation.set(0)
        self._verdict_at.set(0)
        if health is None:
            return
        self._verdict.labels(str(health["verdict"])).set(1)
        self._verdict_at.set(_instant(health["finished"]))
        if probation_text(health):
            self._probation.set(_instant(health["probation_until"]))
        for check in health["checks"]:
            self._check_result.labels(check["name"], check["kind"]).set(check["result"] in ("pass", "skip"))
            self._check_counts.labels(check["name"], check["kind"]).set(check["counts"])
            self._check_time.labels(check["name"]).set(check["duration_seconds"])

    def progressed(self, progress: Progress) -> None:
        """See `audience.Listener`."""
        with self._lock:
            self._clear(self._progress, self._rate)
            self._progress.labels(progress.step, "done").set(progress.done)
            self._progress.labels(progress.step, "total").set(progress.total)
            self._rate.labels(progress.step).set(progress.rate)

    def happened(self, effect: Record) -> None:
        """See `audience.Listener`."""
        match effect.kind:
            case "install":
                self._installs.inc()
            case "staged":
                self._staged.inc()
            case "reboot":
                self._reboots.inc()
            case "fell-back" | "rolled-back":
                self._rollbacks.labels(effect.kind).inc()
            case "confirmed":
                self._boot.set_to_current_time()

    def reloaded(self, *, successful: bool) -> None:
        """The configuration was read again."""
        self._config_good.set(successful)
        if successful:
            self._config_read.set_to_current_time()

    def text(self) -> bytes:
        """The exposition format."""
        with self._lock:
            self._settle()
            return generate_latest(self.registry)


def _instant(text: Any) -> int:
    """Seconds since the epoch; 0 for what is no time: some of it comes from files of another version."""
    try:
        return parse_time(text)
    except (TypeError, ValueError):
        return 0


def _own_version() -> str:
    # importlib.metadata would say it as well, and keep more than a megabyte of the memory of a node for that.
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder or "."):
                if name.startswith("updated-") and name.endswith(".dist-info"):
                    return name.removeprefix("updated-").removesuffix(".dist-info")
    return "unknown"
