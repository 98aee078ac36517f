"""What the kernel says: taints and log, pressure, the clock, routes, mounts. The kernel that runs is the judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from health.check import Attempt, Check, Pace, Probe
from health.probes import Surroundings, attempt
from health.probes.clock import ERROR_LIMIT, TimeProbe, greatest_error
from health.probes.kernel import KernelProbe, _read, messages, taints
from health.probes.pressure import PressureProbe
from health.probes.routes import Family, RouteProbe
from tests.health.conftest import Put

REPOSITORY = Path(__file__).parent.parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this to the machine")


def try_once(probe: Probe, root: str | Path = "/") -> Attempt:
    return attempt(Check("required", "it", probe, Pace()), Surroundings.of(str(root)))


# ------------------------------------------------------------------------------------------------ taints and the log

OOPS = (
    "4,1,1,-;Linux version 6.1.0 (gcc) #1 SMP\n"
    "1,2,2,-;BUG: kernel NULL pointer dereference, address: 0000000000000010\n SUBSYSTEM=x\n"
    "4,3,3,-;Oops: 0000 [#1] PREEMPT SMP PTI\n"
)
QUIET = (
    "5,0,0,-;Linux version 6.1.0 (gcc) #1 SMP\n"
    "6,1,1,-;Command line: panic=10 oops=panic\n"
    "4,2,2,-;ACPI BIOS Error (bug): Could not resolve symbol, AE_NOT_FOUND\n"
    "4,3,3,-;[Firmware Bug]: the BIOS has corrupted hw-PMU resources\n"
    "6,4,4,-;traps: web[7] general protection fault ip:1 sp:2 error:0 in web[1000+2000]\n"
)


def kernel(put: Put, tmp_path: Path, tainted: int, log: str) -> Path:
    put("proc/sys/kernel/tainted", f"{tainted}\n")
    put("dev/kmsg", log)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [web:7]",
        "kernel BUG at mm/slub.c:4023!",
        "Oops: 0000 [#1] PREEMPT SMP PTI",
        "Oops[#1]:",
        "Internal error: Oops: 96000004 [#1] SMP",
        "Unable to handle kernel paging request at virtual address dead000000000108",
        "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
    ],
)
def test_a_report_of_the_kernels_own_fault_fails_for_good(put: Put, tmp_path: Path, line: str) -> None:
    made = try_once(KernelProbe(), kernel(put, tmp_path, 0, f"1,7,7,-;{line}\n"))
    assert made == Attempt("fail", line, final=True)


def test_the_first_lines_of_a_fault_are_told(put: Put, tmp_path: Path) -> None:
    made = try_once(KernelProbe(), kernel(put, tmp_path, 0, OOPS))
    assert made.output.splitlines() == [
        "BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "Oops: 0000 [#1] PREEMPT SMP PTI",
    ]


def test_bugs_of_firmware_and_faults_of_programs_are_no_faults_of_the_kernel(put: Put, tmp_path: Path) -> None:
    assert try_once(KernelProbe(), kernel(put, tmp_path, 0, QUIET)) == Attempt("pass")


def test_a_program_can_not_throw_out_a_release_by_what_it_writes_into_the_kernels_log(
    put: Put, tmp_path: Path
) -> None:
    assert try_once(KernelProbe(), kernel(put, tmp_path, 0, "12,7,7,-;BUG: from user space\n")).result == "pass"


def test_lines_that_are_ignored_do_not_fail(put: Put, tmp_path: Path) -> None:
    root = kernel(put, tmp_path, 0, OOPS)
    assert try_once(KernelProbe(ignore=("BUG: kernel NULL*", "Oops: *")), root).result == "pass"
    assert try_once(KernelProbe(ignore=("NULL",)), root).result == "fail"


def test_a_taint_fails_unless_it_is_allowed(put: Put, tmp_path: Path) -> None:
    root = kernel(put, tmp_path, (1 << 0) | (1 << 7) | (1 << 12), QUIET)
    assert try_once(KernelProbe(), root).output.splitlines() == ["tainted P", "tainted D", "tainted O"]
    assert try_once(KernelProbe(("P", "O")), root).output == "tainted D"
    assert try_once(KernelProbe(("P", "O", "D")), root).result == "pass"


def test_a_taint_without_a_letter_is_told_by_its_bit() -> None:
    assert taints(1 << 30) == ["30"]
    assert taints(0) == []


def test_a_log_that_can_not_be_read_fails(put: Put, tmp_path: Path) -> None:
    put("proc/sys/kernel/tainted", "0\n")
    assert try_once(KernelProbe(), tmp_path) == Attempt(
        "fail", "/dev/kmsg can't be read: No such file or directory", final=True
    )


def test_below_a_root_without_a_kernel_the_check_is_skipped(tmp_path: Path) -> None:
    assert try_once(KernelProbe(), tmp_path) == Attempt("skip", "no /proc/sys/kernel/tainted below --root")


def kernel_log() -> str:
    listed = subprocess.run(["dmesg", "--facility=kern", "--kernel"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this user may not read the kernel's log")
    return listed.stdout


@needs_root
def test_the_log_of_this_machine_is_read_to_its_end_as_dmesg_reads_it() -> None:
    marker = f"updated-health was here {os.getpid()}: BUG: by a program"
    Path("/dev/kmsg").write_text(f"{marker}\n")
    expected = kernel_log().splitlines()
    read = _read("/dev/kmsg", float("inf"))
    assert marker in read
    assert not [line for line in messages(read) if marker in line]
    assert abs(len(list(messages(read))) - len(expected)) <= 2  # the kernel may log meanwhile


def test_the_taints_of_this_machine_are_those_that_the_kernel_tells() -> None:
    value = int(Path("/proc/sys/kernel/tainted").read_text())
    made = try_once(KernelProbe())
    told = [line.removeprefix("tainted ") for line in made.output.splitlines() if line.startswith("tainted ")]
    assert told == taints(value)


# ------------------------------------------------------------------------------------------------------------ pressure

SOME = "some avg10=80.00 avg60=31.50 avg300=13.00 total=9639598632\n"
FULL = "full avg10=40.00 avg60=20.50 avg300=1.00 total=9639598\n"


@pytest.fixture
def pressed(put: Put, tmp_path: Path) -> Path:
    for resource in ("cpu", "memory", "io"):
        put(f"proc/pressure/{resource}", SOME + FULL)
    put("proc/loadavg", f"{8.0 * (os.cpu_count() or 1)} {2.0 * (os.cpu_count() or 1)} 1.00 3/300 4711\n")
    return tmp_path


@pytest.mark.parametrize(
    ("probe", "result"),
    [
        (PressureProbe(cpu_percent=31), "fail"),
        (PressureProbe(cpu_percent=32), "pass"),
        (PressureProbe(cpu_percent=32, window_seconds=10), "fail"),
        (PressureProbe(cpu_percent=13, window_seconds=300), "pass"),
        (PressureProbe(memory_percent=31), "fail"),
        (PressureProbe(memory_full_percent=20), "fail"),
        (PressureProbe(memory_full_percent=21), "pass"),
        (PressureProbe(io_percent=31), "fail"),
        (PressureProbe(io_full_percent=21), "pass"),
        (PressureProbe(io_full_percent=21, cpu_percent=31), "fail"),
        (PressureProbe(load_per_cpu=7), "fail"),
        (PressureProbe(load_per_cpu=8), "pass"),
        (PressureProbe(load_per_cpu=2, window_seconds=300), "pass"),
    ],
)
def test_pressure_fails_above_its_limits(pressed: Path, probe: PressureProbe, result: str) -> None:
    assert try_once(probe, pressed).result == result


def test_pressure_is_told_with_its_limits(pressed: Path) -> None:
    made = try_once(PressureProbe(cpu_percent=10, load_per_cpu=9), pressed)
    assert made.output == "cpu some 31.50 of at most 10, load per CPU 8.00 of at most 9"


def test_a_kernel_that_does_not_measure_pressure_is_no_reason_to_leave_a_slot(pressed: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "proc/pressure").iterdir():
        file.unlink()
    assert try_once(PressureProbe(cpu_percent=0), pressed) == Attempt("skip", "the kernel measures none of this")
    assert try_once(PressureProbe(cpu_percent=0, load_per_cpu=1), pressed).result == "fail"


def test_the_pressure_of_this_machine_is_read() -> None:
    if not os.path.exists("/proc/pressure/memory"):
        pytest.skip("this kernel has no pressure stall information")
    all_limits = PressureProbe(100, 100, 100, 100, 100, 100000, 10)
    made = try_once(all_limits)
    assert made.result == "pass"
    assert made.output.count("of at most") == 6


# ----------------------------------------------------------------------------------------------------------- the clock


def test_how_far_the_clock_is_off_is_read_as_c_reads_it(tmp_path: Path) -> None:
    program = tmp_path / "asks"
    source = "#include <stdio.h>\n#include <sys/timex.h>\nint main(void) { struct timex t = {0};\n"
    source += 'if (adjtimex(&t) < 0) return 1; printf("%ld\\n", t.maxerror); }\n'
    subprocess.run(["gcc", "-x", "c", "-", "-o", str(program)], input=source, text=True, check=True)
    # It grows by 500 µs in each second, until somebody sets it back.
    for _ in range(5):
        before = int(subprocess.check_output([str(program)]))
        ours = greatest_error()
        after = int(subprocess.check_output([str(program)]))
        if before <= after:
            assert before <= ours <= after
            return
    pytest.fail("the clock was set in each of five attempts")


def test_the_clock_is_judged_as_the_kernel_holds_it() -> None:
    made = try_once(TimeProbe())
    assert made.result == ("pass" if greatest_error() < ERROR_LIMIT else "fail")
    assert not made.final


# -------------------------------------------------------------------------------------------------------------- routes

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
NETWORK = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
ZERO = "0" * 32
REJECT6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
DEFAULT6 = f"{ZERO} 00 {ZERO} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00450003     eth0\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "passing"),
    [
        (HEADER + NETWORK, REJECT6, set()),
        (HEADER, "", set()),
        (HEADER + NETWORK + DEFAULT, REJECT6, {"ipv4", "any"}),
        (HEADER + NETWORK, REJECT6 + DEFAULT6, {"ipv6", "any"}),
        (HEADER + DEFAULT, DEFAULT6, {"ipv4", "ipv6", "any"}),
        (HEADER + DEFAULT.replace("\t0003\t", "\t0002\t"), "", set()),
        (HEADER + DEFAULT.replace("\t0003\t", "\t0203\t"), "", set()),
        (HEADER + DEFAULT.replace("eth0", "lo"), "", set()),
        (HEADER + DEFAULT, None, {"ipv4", "any"}),
    ],
)
def test_a_default_route_is_one_that_is_up_and_leads_out(
    put: Put, tmp_path: Path, ipv4: str, ipv6: str | None, passing: set[str]
) -> None:
    put("proc/net/route", ipv4)
    if ipv6 is not None:
        put("proc/net/ipv6_route", ipv6)
    families: tuple[Family, ...] = ("ipv4", "ipv6", "any")
    assert {family for family in families if try_once(RouteProbe(family), tmp_path).result == "pass"} == passing


def test_a_kernel_without_the_family_skips(put: Put, tmp_path: Path) -> None:
    put("proc/net/route", HEADER)
    assert try_once(RouteProbe("ipv6"), tmp_path).result == "skip"


LOOK = """
import json, sys
from health.probes import Surroundings
from health.probes.routes import Family, RouteProbe
made = [RouteProbe(family).attempt(10, Surroundings.of("/")) for family in ("ipv4", "ipv6", "any")]
print(json.dumps([[each.result, each.output] for each in made]))
"""


def in_a_network(commands: str) -> list[list[str]]:
    """What the checks say in a network namespace of their own, after these commands of a shell."""
    script = f'ip link set lo up; ip link add way type veth peer name other; ip link set way up; {commands}; exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", script, "sh", sys.executable, "-c", LOOK],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0 and "Operation not" in done.stderr:
        pytest.skip(f"no network namespace with a device of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    answer: list[list[str]] = json.loads(done.stdout)
    return answer


@needs_root
def test_in_a_real_network_without_a_way_out_there_is_no_default_route() -> None:
    assert [result for result, _ in in_a_network("ip address add 10.9.0.2/24 dev way")] == ["fail", "fail", "fail"]


@needs_root
def test_in_a_real_network_a_default_route_is_found() -> None:
    four, six, any_of_them = in_a_network("ip route add default dev way")
    assert (four, six[0]) == (["pass", "default route of ipv4 by way"], "fail")
    assert any_of_them[0] == "pass"


@needs_root
def test_in_a_real_network_a_route_that_rejects_is_none() -> None:
    (four, _, _) = in_a_network("ip route add unreachable default")
    assert four[0] == "fail"


# -------------------------------------------------------------------------------------------------------------- mounts

MOUNTS = """
import json, sys
from health.probes import Surroundings
from health.probes.storage import MountProbe
looks = [MountProbe(sys.argv[1], ("ro",)), MountProbe(sys.argv[1], ("rw",)), MountProbe(sys.argv[1], fstype="tmpfs")]
print(json.dumps([look.attempt(10, Surroundings.of("/")).result for look in looks]))
"""


@needs_root
@pytest.mark.parametrize(("mode", "results"), [("ro", ["pass", "fail", "pass"]), ("rw", ["fail", "pass", "pass"])])
def test_a_real_mount_is_judged_by_its_options(tmp_path: Path, mode: str, results: list[str]) -> None:
    script = f'mount -t tmpfs -o {mode} none "$1"; exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", str(tmp_path), sys.executable, MOUNTS],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == results
