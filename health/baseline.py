"""What the checks said on the old slot just before the reboot: values <-> JSON, and the file that keeps them.

Whatever is wrong with the file, a boot is judged without it: then all required checks count. So reading never fails,
and is strict: a file that is doubtful in any way tells of nothing.
"""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from bootctl import durable
from bootctl.errors import mend_of
from bootctl.precedence import same_version
from health.check import CheckResult, Kind, Result
from health.rootdir import below

BASELINE = "/var/lib/updated/health/baseline.json"
SCHEMA = 1
SIZE_LIMIT = 4 * 1024 * 1024

Key = tuple[str, str, str]
"""Kind, name and type of a check: what is configured differently now was not looked at before."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """`slot`, `version` and `boot_id` are those on which the checks ran, at `time` (RFC 3339, in UTC); `target` is the
    version that was about to boot. Each but `slot` and `time` may be unknown."""

    slot: str
    version: str | None
    boot_id: str | None
    target: str | None
    time: str
    results: Mapping[Key, Result]


@dataclass(frozen=True, slots=True)
class NoBaseline:
    """There is nothing to compare with; `reason` is for people."""

    reason: str


def document(
    slot: str, version: str | None, boot_id: str | None, target: str | None, time: str, results: Sequence[CheckResult]
) -> dict[str, Any]:
    """What the file holds, of schema `SCHEMA`."""
    return {
        "schema": SCHEMA,
        "slot": slot,
        "version": version,
        "boot_id": boot_id,
        "target": target,
        "time": time,
        "checks": [
            {
                "kind": result.kind,
                "name": result.name,
                "type": result.type,
                "result": result.result,
                "output": result.output,
            }
            for result in results
        ],
    }


def parse(data: bytes) -> Baseline:
    """The baseline in a document. Raises ValueError, and nothing else whatever the bytes are."""
    try:
        value = json.loads(data, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    about = _fields(value, {"schema": int, "slot": str, "time": str, "checks": list}, ("version", "boot_id", "target"))
    if about["schema"] != SCHEMA or isinstance(about["schema"], bool):
        raise ValueError(f"its schema is not {SCHEMA}")
    results: dict[Key, Result] = {}
    for item in about.pop("checks"):
        check = _fields(item, dict.fromkeys(("kind", "name", "type", "result", "output"), str), ())
        key = (check["kind"], check["name"], check["type"])
        if check["kind"] not in get_args(Kind) or check["result"] not in get_args(Result) or key in results:
            raise ValueError("a check is not as it should be")
        results[key] = check["result"]
    return Baseline(about["slot"], about["version"], about["boot_id"], about["target"], about["time"], results)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _fields(value: Any, wanted: Mapping[str, type], texts_or_none: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {*wanted, *texts_or_none}:
        raise ValueError("its keys are not those of a baseline")
    right = all(isinstance(value[key], kind) for key, kind in wanted.items())
    if not right or not all(isinstance(value[key], str | None) for key in texts_or_none):
        raise ValueError("a value is of another type than it should be")
    return value


def read(root: str) -> Baseline | NoBaseline:
    """The baseline that the file below `root` holds, wherever it comes from. Raises nothing."""
    try:
        descriptor = os.open(below(root, BASELINE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return NoBaseline("the baseline is not a file")
            data = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return NoBaseline("no baseline was kept from before this boot")
    except OSError as error:
        return NoBaseline(f"the baseline can't be read ({error.strerror})")
    if len(data) > SIZE_LIMIT:
        return NoBaseline(f"the baseline is larger than {SIZE_LIMIT} bytes")
    try:
        return parse(data)
    except ValueError as error:
        return NoBaseline(f"the baseline is damaged ({error})")


def for_slot(found: Baseline | NoBaseline, slot: str, version: str | None) -> Baseline | NoBaseline:
    """`found` if it tells what was before the boot of `slot`, on trial with `version`; else why it does not."""
    if isinstance(found, NoBaseline):
        return found
    if found.slot == slot:
        return NoBaseline(f"the baseline is that of slot {slot} itself, from {found.time}")
    if found.target is not None and version is not None and not same_version(found.target, version):
        return NoBaseline(f"the baseline was taken for {found.target}, from {found.time}")
    return found


def is_for(found: Baseline | NoBaseline, slot: str, version: str | None, target: str | None) -> bool:
    """Whether `found` was taken on this slot with `version`, before the update to `target`; no, if any is unknown."""
    if isinstance(found, NoBaseline) or version is None or target is None:
        return False
    return (found.slot, found.version, found.target) == (slot, version, target)


def write(root: str, value: Mapping[str, Any]) -> None:
    """Keeps the baseline, durably and whole. Raises OSError."""
    outside = below(root, BASELINE)
    # The folder is there since the first verdict; if a power cut takes a new one, there is no baseline.
    os.makedirs(os.path.dirname(outside), exist_ok=True)
    durable.write_file(outside, json.dumps(value, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n")


def discard(root: str) -> str | None:
    """Forgets the baseline: it is spent, or a new one is about to be taken. The message if it stays; raises nothing."""
    try:
        durable.remove(below(root, BASELINE))
    except OSError as error:
        return f"{BASELINE}: it can't be removed ({error.strerror}). {mend_of(error, 'Remove it by hand.')}"
    return None
