"""What the children of the daemon give up, with the kernel as the judge."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import urllib3.util.connection

from tests.fakes.machine import Machine
from tests.http.server import ScriptedServer, body
from tests.http.test_tls import _certificate
from tests.node.stand_in import stand_in
from tests.node.world import Publisher
from tests.packaging.shipped import REPOSITORY, UNITS, run, settings
from updated import landlock, seccomp
from updated.confinement import MEMORY_LIMIT, OPEN_FILES

DEEDS = Path(__file__).with_name("deeds.py")
UNIT = UNITS / "updated.service"
MACHINE = os.uname().machine
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a process that shows nothing")
needs_filter = pytest.mark.skipif(MACHINE not in seccomp.ARCHITECTURES, reason="no list of calls for this machine")
needs_landlock = pytest.mark.skipif(
    landlock.version() < landlock.LEAST_VERSION, reason="the kernel has no Landlock, or an old one"
)

# ----------------------------------------------------------------------------------------------------- the whole of it

REFUSED_TO_BOTH = {
    "run a program": "EPERM", "start a program": "EPERM", "start a process": "EPERM", "signal the daemon": "EPERM",
    "signal itself": "done", "outlive the daemon": "EPERM", "show its memory": "EPERM", "take capabilities": "EPERM",
    "become another user": "EPERM", "make a user namespace": "EPERM", "mount": "EPERM", "change the root": "EPERM",
    "type on the terminal": "ENOTTY", "make a pipe with a name": "EPERM", "be a server": "EPERM",
    "give a socket a name": "EACCES",
}  # fmt: skip
LIMITS = {"use more memory": "MemoryError", "raise the limit": "ValueError", "leave a core": "ValueError"}
OUT_OF_REACH = dict.fromkeys(
    ("read the passwords", "read what all may read", "read what is not its own", "list the root", "look at the daemon",
     "open a block device", "open a character device", "open the slot again", "write beside its own",
     "write what was exported", "write a library"), "EACCES",
)  # fmt: skip
HELD = {"write the slot": "EBADF"}
OF_ALL = dict.fromkeys(("write its own", "rename its own", "use threads", "decompress"), "done")
SOCKETS_OF_FETCH = {
    "open a socket": "done", "open a pair": "done", "open a unix socket": "done", "open a raw socket": "EPERM",
    "open a packet socket": "EAFNOSUPPORT", "open a netlink socket": "EAFNOSUPPORT",
    "use another protocol": "EPROTONOSUPPORT", "resolve a name": "done", "read the web": "done",
    "use version 6": "done",
}  # fmt: skip
SOCKETS_OF_SEAL = dict.fromkeys((name for name in SOCKETS_OF_FETCH if name.startswith("open a")), "EPERM")

Outcomes = Mapping[str, Mapping[str, object]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of each try, by the child that tried it."""
    folder = tmp_path_factory.mktemp("confined")
    for name in ("own", "other", "fetch/export"):
        (folder / name).mkdir(parents=True)
    for name in ("other/file", "fetch/export/file", "slot"):
        (folder / name).write_text("x")
    tls = _certificate(folder / "server.pem")
    device = next((path for path in glob.glob("/dev/[vsnm]*[0-9]") if Path(path).is_block_device()), "/dev/loop0")
    master, terminal = os.openpty()
    slot = os.open(folder / "slot", os.O_RDONLY)
    found = {}
    with ScriptedServer(body(b"hello"), tls=tls.context(ask_client=True)) as server:
        for child in ("fetch", "seal"):
            done = subprocess.run(
                [sys.executable, "-P", DEEDS, child, folder, device, str(terminal), str(slot)],
                capture_output=True, text=True, timeout=60, check=False, pass_fds=(terminal, slot),
                env={
                    **os.environ, "PEM": tls.pem,
                    "URL": f"https://localhost:{server.port}/", "HAS_IPV6": str(urllib3.util.connection.HAS_IPV6),
                },
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            found[child] = json.loads(done.stdout)
    for fd in (master, terminal, slot):
        os.close(fd)
    return found


@needs_filter
@needs_landlock
@pytest.mark.parametrize(("deed", "expected"), (REFUSED_TO_BOTH | LIMITS | HELD | OF_ALL).items())
def test_neither_child_can_do_what_it_does_not_need(outcomes: Outcomes, deed: str, expected: str) -> None:
    assert {child: outcome[deed] for child, outcome in outcomes.items()} == {
        # It has no sockets at all.
        "fetch": expected, "seal": "EPERM" if deed in ("be a server", "give a socket a name") else expected,
    }


@needs_landlock
@pytest.mark.parametrize("child", ["fetch", "seal"])
@pytest.mark.parametrize(("deed", "expected"), OUT_OF_REACH.items())
def test_files_that_a_child_does_not_need_are_out_of_reach(
    outcomes: Outcomes, child: str, deed: str, expected: str
) -> None:
    assert outcomes[child][deed] == expected


@needs_filter
@needs_landlock
@pytest.mark.parametrize(("deed", "expected"), SOCKETS_OF_FETCH.items())
def test_fetch_is_a_client_of_the_internet_and_nothing_else(outcomes: Outcomes, deed: str, expected: str) -> None:
    assert outcomes["fetch"][deed] == expected


@needs_filter
@pytest.mark.parametrize(("deed", "expected"), SOCKETS_OF_SEAL.items())
def test_seal_can_not_reach_anything(outcomes: Outcomes, deed: str, expected: str) -> None:
    assert outcomes["seal"][deed] == expected


def test_seal_reads_what_fetch_exported(outcomes: Outcomes) -> None:
    assert outcomes["seal"]["read what was exported"] == "done"


@needs_filter
@needs_landlock
def test_a_kernel_that_can_do_all_of_it_is_no_reason_for_a_note(outcomes: Outcomes) -> None:
    assert [outcome["notes"] for outcome in outcomes.values()] == [[], []]


# ------------------------------------------------------------------------------------------------- the real children

WAITS = """\
import os, time

def seal(task):
    # Into its own folder, which is all that it can write.
    folder = os.path.dirname(task.store)
    open(os.path.join(folder, "ready"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.02)
    return {}
"""


def values(status: Path) -> Mapping[str, str]:
    """The fields of proc_pid_status(5)."""
    return dict(line.split(":\t", 1) for line in status.read_text().splitlines())


def child_of(machine: Machine) -> Path:
    assert machine.daemon is not None
    pid = machine.daemon.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Path(f"/proc/{child}")


def kinds(process: Path) -> Mapping[int, str]:
    """What each descriptor leads to: a path, or a kind."""
    found = {int(link.name): str(link.readlink()) for link in (process / "fd").iterdir()}
    return {fd: path.partition(":")[0] for fd, path in found.items()}


def mode(process: Path, fd: int) -> int:
    lines = dict(line.split(":", 1) for line in (process / f"fdinfo/{fd}").read_text().splitlines())
    return int(lines["flags"], 8) & os.O_ACCMODE


def downloads(machine: Machine) -> bool:
    path = machine.root / "run/updated/status.json"
    progress = json.loads(path.read_text())["progress"] if path.exists() else None
    return progress is not None and progress["step"] == "download" and progress["done"] > 0


@needs_filter
def test_the_child_that_downloads_has_no_rights_and_only_the_files_it_needs(slow: Machine) -> None:
    slow.start_daemon()
    slow.wait_until(lambda: downloads(slow))
    child = child_of(slow)
    status = values(child / "status")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert status["CapBnd"] == "0" * 16
        opened = kinds(child)
        disk = str(slow.root / "disk.img")
        slots = {fd: mode(child, fd) for fd, path in opened.items() if path == disk}
        assert sorted(slots.values()) == [os.O_RDONLY, os.O_RDWR], "the running slot, and the passive one"
        own = str(slow.state / "fetch")
        rest = {path for fd, path in opened.items() if fd > 2 and fd not in slots and not path.startswith(own)}
        assert rest <= {"socket"}, "to the web server"
        assert {opened[0], opened[1]} <= {"socket", "pipe"}
        assert str(slow.log) == opened[2], "the log of the daemon"
        limits = (child / "limits").read_text()
        for name, most in (("data size", MEMORY_LIMIT), ("core file size", 0), ("open files", OPEN_FILES)):
            assert re.search(rf"^Max {name} +{most} +{most} ", limits, re.MULTILINE), limits


@needs_filter
def test_the_child_that_seals_keeps_the_right_to_read_and_a_slot_that_it_can_not_write(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.release("1.1.0")
    (tmp_path / "waits.py").write_text(WAITS)
    machine.environment = stand_in(tmp_path, "seal", "updated.seal", tmp_path / "waits.py", REPOSITORY)
    machine.start_daemon()
    folder = machine.state / "trust"
    machine.wait_until(lambda: (folder / "ready").exists())
    child = child_of(machine)
    status = values(child / "status")
    read_search = f"{4 if os.geteuid() == 0 else 0:016x}"
    assert (status["CapInh"], status["CapPrm"], status["CapEff"]) == ("0" * 16, read_search, read_search)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        opened = kinds(child)
        assert [mode(child, fd) for fd in opened if fd > 2] == [os.O_RDONLY]
        assert {path for fd, path in opened.items() if fd > 2} == {str(machine.root / "disk.img")}
    (folder / "go").touch()


def test_what_reads_the_network_is_loaded_when_nothing_is_left_to_give_up() -> None:
    code = "import sys, updated.child; print('\\n'.join(sys.modules))"
    loaded = set(run(sys.executable, "-c", code).stdout.split())
    assert "updated.confinement" in loaded
    foreign = {"tuf", "securesystemslib", "cryptography", "requests", "urllib3", "zstandard", "ssl", "http.client"}
    assert not loaded & (foreign | {"updated.fetch", "updated.seal", "updated.trust", "updated.http"})


def test_the_daemon_never_loads_the_confinement() -> None:
    code = "import sys, updated.daemon, updated.bus.service, updated.metrics; print('\\n'.join(sys.modules))"
    loaded = set(run(sys.executable, "-c", code).stdout.split())
    assert "updated.children" in loaded
    assert not loaded & {"updated.child", "updated.confinement", "updated.landlock", "updated.seccomp"}


# ------------------------------------------------------------------------------ kernels and services that do not play

# Before the confinement, the process gives up a system call, with an error that tells how.
UNDER_ANOTHER = """\
import ctypes, errno, struct, sys
from updated.confinement import Needs, confine
from updated.core.errors import UpdatedError
from updated.libc import prctl
number, error = int(sys.argv[1]), int(sys.argv[2])
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
prctl(38, 1, 0, 0, 0)
prctl(22, 2, struct.pack("@HP", len(rules), ctypes.addressof(code)))
try:
    print(confine(Needs((), (sys.argv[3],))))
except UpdatedError as fault:
    print(fault.code, fault)
"""
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446


def confined_under(folder: Path, number: int, error: int) -> str:
    done = run(sys.executable, "-c", UNDER_ANOTHER, str(number), str(error), str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_filter
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EOPNOTSUPP], ids=["an old kernel", "Landlock is off"])
def test_a_kernel_without_landlock_is_told(tmp_path: Path, error: int) -> None:
    text = confined_under(tmp_path, LANDLOCK_CREATE_RULESET, error)
    assert "held by file permissions alone: the kernel has version 0 of Landlock" in text


@needs_filter
@needs_landlock
@pytest.mark.parametrize(
    ("number", "name"),
    [(LANDLOCK_CREATE_RULESET, "landlock_create_ruleset"), (LANDLOCK_RESTRICT_SELF, "landlock_restrict_self")],
)
def test_a_step_that_is_refused_ends_the_child_with_a_named_error(tmp_path: Path, number: int, name: str) -> None:
    text = confined_under(tmp_path, number, errno.EPERM)
    assert text.startswith("child-failed the confinement of a child process: ")
    assert f"{name}: Operation not permitted" in text
    assert "SystemCallFilter=" in text


# The system calls that the service allows, and no other, as systemd sets it up; then the program that is named.
AS_A_SERVICE = """\
import ctypes, os, struct, sys
from updated.libc import prctl
numbers = [int(number) for number in sys.argv[1].split(",")]
rules = [(0x20, 0, 0, 0)]
for number in numbers:
    rules += [(0x15, 0, 1, number), (0x06, 0, 0, 0x7FFF0000)]
rules += [(0x06, 0, 0, 0x00050000 | 1)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
prctl(22, 2, struct.pack("@HP", len(rules), ctypes.addressof(code)))
os.execv(sys.argv[2], sys.argv[2:])
"""
HEADERS = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}


def numbers(machine: str) -> Mapping[str, int]:
    """The system calls by name, from the headers of the kernel."""
    path = Path("/usr/include") / HEADERS[machine]
    if not path.exists():
        pytest.skip(f"{path} is missing (Debian: linux-libc-dev)")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def members(name: str) -> set[str]:
    """The system calls of a set of systemd, or the one of this name."""
    if not name.startswith("@"):
        return {name}
    done = run("systemd-analyze", "syscall-filter", "--no-pager", name)
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return set().union(*(members(line) for line in lines if line and not line.startswith("#")))


@needs_root
@needs_filter
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_a_whole_update_works_with_the_calls_and_capabilities_of_the_service(
    machine: Machine, publisher: Publisher
) -> None:
    known = numbers(MACHINE)
    allowed: set[str] = set()
    for value in settings(UNIT, "SystemCallFilter"):
        sets = [members(name) for name in value.removeprefix("~").split()]
        allowed = allowed.difference(*sets) if value.startswith("~") else allowed.union(*sets)
    assert {"landlock_restrict_self", "capset", "execve"} <= allowed
    assert not {"mount", "setrlimit", "io_uring_setup"} & allowed
    capabilities = ",".join(
        f"+{name.removeprefix('CAP_').lower()}" for name in settings(UNIT, "CapabilityBoundingSet")[0].split()
    )
    publisher.release("1.1.0")
    listed = ",".join(str(known[name]) for name in sorted(allowed & set(known)))
    done = run(
        "setpriv", "--no-new-privs", f"--bounding-set=-all,{capabilities}", sys.executable, "-c", AS_A_SERVICE, listed,
        sys.executable, "-m", "updated", "--root", str(machine.root), "--once",
    )
    assert "1.1.0 is staged and boots next" in done.stdout, done.stdout + done.stderr
    assert json.loads((machine.root / "run/updated/status.json").read_text())["notes"] == []
    assert machine.power_on() == "b"


# ----------------------------------------------------------------------------------------------------- the system calls


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    known = numbers(machine)
    place = seccomp.ARCHITECTURES[machine][1]
    for name, pair in {**seccomp.REFUSED, **seccomp.CHECKED}.items():
        assert known.get(name) == pair[place], name


def verdict(machine: str, number: int, *arguments: int, network: bool, architecture: int | None = None) -> int:
    """What the filter of process 77 says: a reading of its program by the book (bpf(4), linux/seccomp.h)."""
    code = seccomp.program(machine, 77, network=network)
    assert code is not None
    rules = list(seccomp.INSTRUCTION.iter_unpack(code))
    known = seccomp.ARCHITECTURES[machine][0] if architecture is None else architecture
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, known, 0, *(word & 2**64 - 1 for word in padded))
    value, at = 0, 0
    tests: Mapping[int, Callable[[int, int], bool]] = {0x15: lambda a, k: a == k, 0x25: lambda a, k: a > k}
    while True:
        operation, then, otherwise, k = rules[at]
        at += 1
        if operation == 0x06:
            return int(k)
        if operation == 0x20:
            (value,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:
            value &= k
        else:
            at += then if tests[operation](value, k) else otherwise


THREAD = 0x3D0F00  # what the C library gives clone(2) for a thread


@pytest.mark.parametrize("network", [True, False], ids=["fetch", "seal"])
@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_filter_says_what_is_meant_on_each_machine(machine: str, network: bool) -> None:
    def says(name: str, *arguments: int) -> int:
        number = {**seccomp.REFUSED, **seccomp.CHECKED}[name][seccomp.ARCHITECTURES[machine][1]]
        assert number is not None
        return verdict(machine, number, *arguments, network=network)

    def fails(code: int) -> int:
        return ERROR | code

    known = {name: pair[seccomp.ARCHITECTURES[machine][1]] for name, pair in seccomp.REFUSED.items()}
    assert {says(name) for name, number in known.items() if number is not None} == {fails(errno.EPERM)}
    named = {*known.values(), *(pair[seccomp.ARCHITECTURES[machine][1]] for pair in seccomp.CHECKED.values())}
    others = {verdict(machine, number, network=network) for number in range(seccomp.NEWEST + 1) if number not in named}
    assert others == {ALLOW}
    for number in (seccomp.NEWEST + 1, 512, 0x40000000, 0x40000000 | 59, -1):
        assert verdict(machine, number, network=network) == fails(errno.ENOSYS)
    assert verdict(machine, 0, network=network, architecture=0x40000003) == KILL  # i386

    assert says("clone", THREAD) == ALLOW
    assert says("clone", signal.SIGCHLD) == says("clone", THREAD | 0x40000000) == fails(errno.EPERM)
    assert says("clone3") == fails(errno.ENOSYS)
    assert (says("kill", 77), says("kill", 1), says("kill", -1)) == (ALLOW, fails(errno.EPERM), fails(errno.EPERM))
    assert (says("prctl", 15), says("prctl", 1), says("prctl", 4)) == (ALLOW, fails(errno.EPERM), fails(errno.EPERM))
    assert (says("ioctl", 3, 0x5421), says("ioctl", 3, 0x5412)) == (ALLOW, fails(errno.ENOTTY))
    assert says("socket", 10, 0o2000001, 6) == (ALLOW if network else fails(errno.EPERM))
    assert says("socket", 16, 3, 0) == fails(errno.EAFNOSUPPORT if network else errno.EPERM)
    assert says("connect") == (ALLOW if network else fails(errno.EPERM))


# Only the filter: as root, each call would otherwise fail in another way, and none of them does anything with -1.
EACH_CALL = """\
import ctypes, errno, json, os, struct, sys
from updated import seccomp
from updated.libc import prctl
libc = ctypes.CDLL(None, use_errno=True)
code = seccomp.program(sys.argv[1], os.getpid(), network=False)
if code:
    buffer = ctypes.create_string_buffer(code, len(code))
    prctl(38, 1, 0, 0, 0)
    prctl(22, 2, struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
wrong = {}
for name, pair in seccomp.REFUSED.items():
    number = pair[seccomp.ARCHITECTURES[sys.argv[1]][1]]
    if number is not None:
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        if (result, ctypes.get_errno()) != (-1, errno.EPERM):
            wrong[name] = result
print(json.dumps(wrong))
"""


@needs_filter
def test_the_kernel_refuses_each_call() -> None:
    done = run(sys.executable, "-c", EACH_CALL, MACHINE)
    assert json.loads(done.stdout) == {}, done.stderr


@needs_filter
@pytest.mark.parametrize("machine", [machine for machine in seccomp.ARCHITECTURES if machine != MACHINE])
def test_the_kernel_takes_the_program_of_another_machine_and_ends_the_process(machine: str) -> None:
    done = run(sys.executable, "-c", EACH_CALL, machine)
    assert done.returncode == -signal.SIGSYS, done.stderr


def test_a_machine_without_a_list_is_told() -> None:
    assert seccomp.program("riscv64", 1, network=True) is None
    code = textwrap.dedent("""\
        import os, sys
        from updated import confinement
        os.uname = lambda: os.uname_result(("Linux", "node", "6.1", "1", "riscv64"))
        print(confinement.confine(confinement.Needs((), ())))
    """)
    done = run(sys.executable, "-c", code)
    assert "The system calls of the children are not filtered" in done.stdout, done.stderr
    assert "riscv64" in done.stdout
