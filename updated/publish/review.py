"""A request in plain words: what would be different, and what signatures are missing.

All of it is read off the metadata that is to be signed, and the metadata that this follows. What has no words of its
own is shown as it is, so that nothing is left out; texts that people wrote are shown as JSON, so that none of them can
play tricks on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]

from updated.core.document import format_time
from updated.core.release import Release
from updated.publish.repository import TOP_ROLES
from updated.publish.request import Need, Request

_SHORT = 16


def lines(request: Request, names: Mapping[str, str]) -> list[str]:
    """What the request changes, role by role. `names`: those of the keys that the reader knows, by key id."""
    found = []
    for role, metadata in request.new.items():
        old, new = request.base[role].signed, metadata.signed
        found.append(
            f"{role}: version {old.version} to {new.version}, expires {format_time(new.expires.timestamp())} "
            f"(before: {format_time(old.expires.timestamp())})"
        )
        found += [f"  {line}" for line in _changes(request, role, names)]
    found.append(f"fingerprint: {request.fingerprint}")
    return found


def needs(request: Request, names: Mapping[str, str]) -> list[str]:
    """Which signatures there are, and which are missing."""
    return [_need(need, names) for need in request.needs()]


def _need(need: Need, names: Mapping[str, str]) -> str:
    role = "root, by the keys that it has had so far" if need.old else need.role
    waiting = [keyid for keyid in need.keyids if keyid not in need.signed]
    by = f" (by {_keys(need.signed, names)})" if need.signed else ""
    done = f"{role}: {len(need.signed)} of {need.threshold} signatures{by}"
    if not need.missing:
        return f"{done}; enough"
    return f"{done}; {need.missing} missing, of {_keys(waiting, names)}"


def _changes(request: Request, role: str, names: Mapping[str, str]) -> list[str]:
    old, new = request.base[role].signed, request.new[role].signed
    found = []
    if isinstance(new, Root | Targets):
        found += list(_key_changes(old, new, names))
    if role not in TOP_ROLES:
        found += list(_target_changes(request, role))
    found += _differences(_rest(old), _rest(new))
    return found or ["nothing but version and expiry"]


def _entries(signed: Root | Targets) -> Mapping[str, Any]:
    if isinstance(signed, Root):
        return signed.roles
    return (signed.delegations.roles or {}) if signed.delegations is not None else {}


def _key_changes(old: Root | Targets, new: Root | Targets, names: Mapping[str, str]) -> Iterator[str]:
    before = _entries(old)
    for role, entry in _entries(new).items():
        was = before[role]
        for keyid in entry.keyids:
            if keyid not in was.keyids:
                key = new.get_key(keyid)
                known = names.get(keyid, "a key that is not known here")
                yield f"{role}: takes in {known}, {key.scheme}, key id {keyid}"
        for keyid in was.keyids:
            if keyid not in entry.keyids:
                yield f"{role}: takes out {names.get(keyid, 'a key that is not known here')}, key id {keyid}"
        if was.threshold != entry.threshold:
            yield f"{role}: needs {entry.threshold} signatures instead of {was.threshold}"
        # Also when nothing is different: what it was before is only the word of the one who asks.
        yield f"{role}: then {entry.threshold} of {_keys(entry.keyids, names)}"


def _target_changes(request: Request, role: str) -> Iterator[str]:
    before, after = request.base[role].signed.targets, request.new[role].signed.targets
    for path in before:
        if path not in after:
            yield f"no longer lists {json.dumps(path)}"
    for path in request.changed_targets(role):
        data = request.files[path]
        if path.startswith("releases/"):
            yield f"{'changes' if path in before else 'adds'} {path}, SHA-256 {after[path].hashes['sha256']}"
            yield from _release(Release.parse(data))
        else:
            yield from _channel(json.loads(request.old_files.get(path, b"{}")), json.loads(data))


def _release(release: Release) -> Iterator[str]:
    yield f"  release {release.version} for {release.compatible}, built {format_time(release.built)}"
    for name, component in release.components.items():
        yield f"  {name}: {component.size} bytes, SHA-256 {component.sha256}"
    if release.notes:
        yield f"  notes: {json.dumps(release.notes)}"


def _channel(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    before = {entry["version"]: entry for entry in old.pop("releases", [])}
    after = {entry["version"]: entry for entry in new.pop("releases", [])}
    for version, entry in after.items():
        if version not in before:
            details = ", ".join(f"{key}: {json.dumps(value)}" for key, value in entry.items() if key != "version")
            yield f"ships {version} anew, {details}"
        elif entry != before[version]:
            yield f"changes {version}"
            yield from (f"  {line}" for line in _differences(before[version], entry))
    yield from (f"no longer has {version}" for version in before if version not in after)
    yield from _differences(old, new)


def _rest(signed: Any) -> dict[str, Any]:
    """What is signed and has no words of its own."""
    document: dict[str, Any] = signed.to_dict()
    for key in ("version", "expires"):
        del document[key]
    document.pop("targets", None)
    for holder in (document, document.get("delegations") or {}):
        holder.pop("keys", None)
        roles = holder.get("roles", {})
        for entry in roles.values() if isinstance(roles, dict) else roles:
            entry.pop("keyids", None)
            entry.pop("threshold", None)
    return document


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            word = json.dumps(key)[1:-1]
            yield from _differences(old.get(key), new.get(key), f"{path}.{word}" if path else word)
    elif old != new:
        yield f"{path}: {json.dumps(old)} -> {json.dumps(new)}"


def _keys(keyids: Any, names: Mapping[str, str]) -> str:
    return ", ".join(f"{names[keyid]} ({keyid[:_SHORT]})" if keyid in names else keyid for keyid in keyids) or "none"
