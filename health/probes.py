"""One attempt at a check: a function for each type of probe, and what they need to know of where they run."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from health.check import (
    OUTPUT_LIMIT,
    Attempt,
    Check,
    DiskSpaceProbe,
    ExecProbe,
    FailedUnitsProbe,
    HttpProbe,
    InvalidProbe,
    MountProbe,
    TcpProbe,
    UnitProbe,
)
from health.commands import Commands, Finished
from health.mounts import read_mounts
from health.rootdir import below

EXIT_RETRY = 75
"""EX_TEMPFAIL of sysexits.h."""
EXIT_SKIP = 77
"""What a skipped test of GNU Automake exits with."""
BODY_LIMIT = 1024 * 1024
"""Bytes of an HTTP answer that are searched for `contains`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the checks run: the root directory as an absolute path, and whether systemd runs this very system."""

    root: str
    systemd: bool
    commands: Commands

    @classmethod
    def of(cls, root: str) -> "Surroundings":
        """`systemd` is told as sd_booted(3) does; below another root it is never the one that runs there."""
        return cls(root, root == "/" and os.path.isdir("/run/systemd/system"), Commands())


def attempt(check: Check, around: Surroundings) -> Attempt:
    """Makes one attempt at `check`, within about its time-out. May raise OSError, which is a failed attempt."""
    return _ATTEMPTS[type(check.probe)](check.probe, check.pace.timeout_seconds, around)


def _invalid(probe: InvalidProbe, timeout: float, around: Surroundings) -> Attempt:
    return Attempt("fail", probe.error, final=True)


def _exec(probe: ExecProbe, timeout: float, around: Surroundings) -> Attempt:
    argv = _inside(around.root, probe.command)
    try:
        finished = around.commands.run(argv, timeout_seconds=timeout)
    except (OSError, ValueError) as error:
        return Attempt("fail", f"{argv[0]} can't be started: {_cause(error)}", final=True)
    status = finished.status
    if status is None:
        return Attempt("timeout", _headed(f"killed after {timeout:g} s", finished.output))
    if status == 0:
        return Attempt("pass", finished.output)
    if status == EXIT_SKIP:
        return Attempt("skip", finished.output)
    if status == EXIT_RETRY:
        return Attempt("fail", _headed("asks to be tried again later (exit status 75)", finished.output))
    ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return Attempt("fail", _headed(ending, finished.output), final=True)


def _inside(root: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """unshare(1) is util-linux's chroot that also works without privileges, in a user namespace."""
    if root == "/":
        return command
    privileges = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *privileges, f"--root={root}", "--wd=/", "--", *command)


def _headed(headline: str, output: str) -> str:
    return f"{headline}\n{output[-(OUTPUT_LIMIT - len(headline) - 1) :]}"


def _unit(probe: UnitProbe, timeout: float, around: Surroundings) -> Attempt:
    if not around.systemd:
        return _no_systemd(around)
    properties = "LoadState,ActiveState,SubState,Result"
    answer = _systemctl(around, timeout, "show", f"--property={properties}", "--", probe.unit)
    if answer.status != 0:
        return _unanswered(answer, timeout)
    state = dict(line.split("=", 1) for line in answer.output.splitlines() if "=" in line)
    told = f"{probe.unit} is {state.get('ActiveState', 'unknown')} ({state.get('SubState', 'unknown')})"
    if state.get("LoadState") != "loaded":
        told += f", load state {state.get('LoadState', 'unknown')}"
    if state.get("Result", "success") != "success":
        told += f", result {state['Result']}"
    return Attempt("pass" if state.get("ActiveState") == "active" else "fail", told)


def _no_failed_units(probe: FailedUnitsProbe, timeout: float, around: Surroundings) -> Attempt:
    from fnmatch import fnmatchcase

    if not around.systemd:
        return _no_systemd(around)
    answer = _systemctl(around, timeout, "list-units", "--state=failed", "--plain", "--no-legend", "--full")
    if answer.status != 0:
        return _unanswered(answer, timeout)
    # Before 247 --plain left a bullet at the start of the line of a failed unit.
    units = [line.replace("●", " ").split()[0] for line in answer.output.splitlines() if line.strip("● \t")]
    failed = [unit for unit in units if not any(fnmatchcase(unit, pattern) for pattern in probe.ignore)]
    return Attempt("fail", f"failed: {', '.join(failed)}") if failed else Attempt("pass")


def _systemctl(around: Surroundings, timeout: float, *arguments: str) -> Finished:
    environment = ("env", "LC_ALL=C", "SYSTEMD_COLORS=0")
    return around.commands.run((*environment, "systemctl", "--no-pager", *arguments), timeout_seconds=timeout)


def _unanswered(answer: Finished, timeout: float) -> Attempt:
    if answer.status is None:
        return Attempt("timeout", f"systemctl gave no answer within {timeout:g} s")
    return Attempt("fail", _headed(f"systemctl: exit status {answer.status}", answer.output))


def _no_systemd(around: Surroundings) -> Attempt:
    return Attempt("skip", "no systemd runs here" if around.root == "/" else "no systemd below --root")


def _http(probe: HttpProbe, timeout: float, around: Surroundings) -> Attempt:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(probe.url)
    assert parts.hostname is not None  # noqa: S101 - the check file's format sees to it
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers={"User-Agent": "updated-health", "Connection": "close"})
        with connection.getresponse() as response:
            body = response.read(BODY_LIMIT) if probe.contains is not None else b""
            status, told = response.status, f"{probe.url} answers {response.status} {response.reason}"
    except TimeoutError:
        return Attempt("timeout", f"{probe.url} gave no answer within {timeout:g} s")
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        return Attempt("fail", f"{probe.url} can't be fetched: {_cause(error)}")
    finally:
        connection.close()
    if not (200 <= status <= 299 if probe.status is None else status == probe.status):
        return Attempt("fail", f"{told}, not {probe.status or '2xx'}")
    if probe.contains is not None and probe.contains.encode() not in body:
        return Attempt("fail", f"{told} without {probe.contains!r}")
    return Attempt("pass", told)


def _tcp(probe: TcpProbe, timeout: float, around: Surroundings) -> Attempt:
    import socket

    place = f"{probe.host} port {probe.port}"
    try:
        socket.create_connection((probe.host, probe.port), timeout=timeout).close()
    except TimeoutError:
        return Attempt("timeout", f"{place} did not answer within {timeout:g} s")
    except (OSError, UnicodeError) as error:
        return Attempt("fail", f"{place} can't be reached: {_cause(error)}")
    return Attempt("pass", f"{place} accepts connections")


def _disk_space(probe: DiskSpaceProbe, timeout: float, around: Surroundings) -> Attempt:
    try:
        status = os.statvfs(below(around.root, probe.path))
    except OSError as error:
        return Attempt("fail", f"{probe.path}: {_cause(error)}")
    free = status.f_bavail * status.f_frsize
    percent = 100 * status.f_bavail / status.f_blocks if status.f_blocks else 100.0
    # File systems that make inodes as they need them (btrfs, FAT) report none at all.
    inodes = 100 * status.f_favail / status.f_files if status.f_files else 100.0
    told = f"{probe.path} has {free} bytes ({percent:.1f} %) and {inodes:.1f} % of the inodes free"
    short = [
        f"{wanted:g} {unit} wanted"
        for has, wanted, unit in (
            (free, probe.free_bytes, "bytes"),
            (percent, probe.free_percent, "%"),
            (inodes, probe.free_inodes_percent, "% of the inodes"),
        )
        if wanted is not None and has < wanted
    ]
    return Attempt("fail", f"{told}; {', '.join(short)}") if short else Attempt("pass", told)


def _mount(probe: MountProbe, timeout: float, around: Surroundings) -> Attempt:
    mount = read_mounts(around.root).get(os.path.normpath(probe.path))
    if mount is None:
        return Attempt("fail", f"nothing is mounted on {probe.path}")
    told = f"{probe.path} is mounted as {mount.fstype} ({','.join(sorted(mount.options))})"
    missing = [option for option in probe.options if option not in mount.options]
    if missing:
        return Attempt("fail", f"{told}, without {', '.join(missing)}")
    if probe.fstype not in (None, mount.fstype):
        return Attempt("fail", f"{told}, not as {probe.fstype}")
    return Attempt("pass", told)


def _cause(error: Exception) -> str:
    """The system's words without its number, since a person reads them."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


_ATTEMPTS: Mapping[type, Callable[[Any, float, Surroundings], Attempt]] = {
    InvalidProbe: _invalid,
    ExecProbe: _exec,
    UnitProbe: _unit,
    FailedUnitsProbe: _no_failed_units,
    HttpProbe: _http,
    TcpProbe: _tcp,
    DiskSpaceProbe: _disk_space,
    MountProbe: _mount,
}
