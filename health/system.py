"""What the system below a root says of itself, and the files in which health tells others."""

import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootctl import durable
from bootctl.errors import mend_of
from health.rootdir import below

if TYPE_CHECKING:
    from health.record import Record

VERDICT = "/var/lib/updated/health/verdict.json"
VERDICT_COPY = "/run/updated/health.json"
# Outlives the verdicts of the boots that follow, so that the old slot can still say why the new one was left.
REJECTION = "/var/lib/updated/health/rejected.json"
MOTD = "/run/motd.d/updated-health"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
UPTIME = "/proc/uptime"
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes of a document that are read, which is far more than is ever written."""


def image_version(root: str) -> str | None:
    """IMAGE_VERSION of os-release(5), else VERSION_ID; None when neither can be read."""
    values = os_release(root)
    return values.get("IMAGE_VERSION") or values.get("VERSION_ID")


def os_release(root: str) -> dict[str, str]:
    """The assignments of os-release(5) below `root`; none when it can't be read."""
    return next(_os_releases(root), {})


def image_versions(root: str) -> tuple[str, ...]:
    """What each file of os-release(5) that has IMAGE_VERSION says it is; that of /etc comes first."""
    found = (each.get("IMAGE_VERSION") for each in _os_releases(root))
    return tuple(dict.fromkeys(version for version in found if version))


def _os_releases(root: str) -> Iterator[dict[str, str]]:
    for path in OS_RELEASE:
        try:
            with open(below(root, path), encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        yield parse_os_release(text)


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5); a line that a shell would not take as one is left out."""
    import shlex

    values: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if not separator or key.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if len(words) <= 1:
            values[key] = words[0] if words else ""
    return values


def boot_id(root: str) -> str | None:
    """The kernel's id of this boot, from `root`'s own /proc if it has one (random(4))."""
    for path in (below(root, BOOT_ID), BOOT_ID):
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, ValueError):
            continue
    return None


def uptime(root: str) -> float | None:
    """Seconds since the kernel started, with those in which the machine slept, from `root`'s own /proc (proc(5)); None
    where it has none: that system does not run."""
    try:
        with open(below(root, UPTIME), encoding="ascii") as file:
            return float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def write_verdict(root: str, record: "Record") -> list[str]:
    """Writes the verdict file, durably, its copy and the message of the day; what could not be written, as messages.

    That the reason is lost is bad; that a sick slot is kept because of it would be worse. So this raises nothing.
    """
    import json

    from health.record import motd

    data = json.dumps(record.document, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n"
    message = motd(record)
    problems = [_write(root, VERDICT, data), _write(root, VERDICT_COPY, data)]
    if record.judgement.verdict == "rejected":
        problems.append(_write(root, REJECTION, data))
    problems.append(_remove(root, MOTD) if message is None else _write(root, MOTD, message.encode(errors="replace")))
    return [problem for problem in problems if problem is not None]


def store(root: str, path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Makes `data` the content of `path` inside `root`, durably, with the folders that it needs. Raises OSError."""
    outside = below(root, path)
    make_directory(os.path.dirname(outside))
    durable.write_file(outside, data, mode=mode)


def tail(path: str, limit: int) -> bytes:
    """The last `limit` bytes of a file. Raises OSError, also for what is no file: a pipe would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return os.pread(descriptor, limit, max(found.st_size - limit, 0))
    finally:
        os.close(descriptor)


def this_boots_verdict(root: str) -> str | None:
    """The verdict that was reached in this boot; None without one, or when its file is damaged."""
    import json

    try:
        document = json.loads(tail(below(root, VERDICT), DOCUMENT_LIMIT))
        verdict, judged = document["verdict"], document["boot_id"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return verdict if isinstance(verdict, str) and judged == boot_id(root) else None


def _write(root: str, path: str, data: bytes) -> str | None:
    try:
        store(root, path, data)
    except OSError as error:
        return f"{path}: it can't be written ({error.strerror}). {mend_of(error)} Then run updated-health again."
    return None


def _remove(root: str, path: str) -> str | None:
    try:
        durable.remove(below(root, path))
    except OSError as error:
        return f"{path}: it can't be removed ({error.strerror}). {mend_of(error, 'Remove it by hand.')}"
    return None


def make_directory(path: str) -> None:
    """mkdir -p whose names survive a power cut."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    os.mkdir(path, 0o755)
    durable.sync_directory(parent)
