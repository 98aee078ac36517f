import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl.settings import ConfigError
from health.check import Check, Kind, Pace, Probe
from health.checkfile import TYPES, described, parse_check
from health.probes.bus import BusNameProbe
from health.probes.clock import TimeProbe
from health.probes.containers import RuntimeProbe
from health.probes.image import BootedVersionProbe
from health.probes.kernel import KernelProbe
from health.probes.kubernetes import KubeletProbe, NodeReadyProbe
from health.probes.network import HttpProbe, TcpProbe, UnixSocketProbe
from health.probes.pressure import PressureProbe
from health.probes.programs import ExecProbe
from health.probes.routes import RouteProbe
from health.probes.storage import DiskSpaceProbe, MountProbe
from health.probes.units import BootCompleteProbe, FailedUnitsProbe, UnitProbe

FILE = "/etc/updated/health.d/required.d/web.toml"


def check(text: str, kind: Kind = "required") -> Check:
    return parse_check(text.encode(), FILE, kind, "web")


def parse(text: str) -> tuple[Probe, Pace]:
    read = check(text)
    return read.probe, read.pace


def error(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_check(text if isinstance(text, bytes) else text.encode(), FILE, "required", "web")
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ('type = "exec"\ncommand = ["/bin/true", ""]', ExecProbe(("/bin/true", ""))),
        ('type = "unit"\nunit = "getty@tty1.service"', UnitProbe("getty@tty1.service")),
        ('type = "no-failed-units"', FailedUnitsProbe()),
        ('type = "no-failed-units"\nignore = ["a-*.service"]', FailedUnitsProbe(("a-*.service",))),
        ('type = "http"\nurl = "http://[::1]:80/x?y"', HttpProbe("http://[::1]:80/x?y")),
        (
            'type = "http"\nurl = "https://localhost"\nstatus = 204\ncontains = "ok"',
            HttpProbe("https://localhost", 204, "ok"),
        ),
        ('type = "tcp"\nhost = "localhost"\nport = 22', TcpProbe("localhost", 22)),
        ('type = "disk-space"\npath = "/var"\nfree_percent = 5', DiskSpaceProbe("/var", free_percent=5.0)),
        (
            'type = "mount"\npath = "/"\noptions = ["ro"]\nfstype = "erofs"',
            MountProbe("/", ("ro",), "erofs"),
        ),
        ('type = "unit"\nunit = "web.service"\nmax_restarts = 0', UnitProbe("web.service", 0)),
        ('type = "boot-complete"', BootCompleteProbe()),
        ('type = "dbus-name"\nname = "org.freedesktop.login1"', BusNameProbe("org.freedesktop.login1")),
        ('type = "unix-socket"\npath = "/run/x"', UnixSocketProbe("/run/x")),
        ('type = "route"', RouteProbe("any")),
        ('type = "route"\nfamily = "ipv6"', RouteProbe("ipv6")),
        ('type = "kernel"', KernelProbe()),
        ('type = "kernel"\ntaint_allowed = ["P", "O"]\nignore = ["*x*"]', KernelProbe(("P", "O"), ("*x*",))),
        ('type = "pressure"\nmemory_full_percent = 10', PressureProbe(memory_full_percent=10.0)),
        (
            'type = "pressure"\nload_per_cpu = 4\nwindow_seconds = 300',
            PressureProbe(load_per_cpu=4.0, window_seconds=300),
        ),
        ('type = "time-synchronised"', TimeProbe()),
        ('type = "kubelet"', KubeletProbe("http://127.0.0.1:10248/healthz")),
        ('type = "node-ready"\nnode = "n1"', NodeReadyProbe("/etc/kubernetes/kubelet.conf", "n1")),
        ('type = "container-runtime"\nruntime = "podman"', RuntimeProbe("podman")),
        ('type = "container-runtime"\nruntime = "crio"\npath = "/run/c"', RuntimeProbe("crio", "/run/c")),
        ('type = "booted-version"', BootedVersionProbe()),
    ],
)
def test_each_type_of_check_is_read(text: str, probe: Probe) -> None:
    assert parse(text) == (probe, Pace())


def test_the_pace_is_read_beside_the_keys_of_the_type() -> None:
    text = 'type="no-failed-units"\ntimeout_seconds=2.5\nretries=0\nretry_delay_seconds=0\nsettle_seconds=30'
    assert parse(text)[1] == Pace(2.5, 0, 0, 30)


def test_without_a_pace_an_attempt_has_ten_seconds_and_two_more_follow() -> None:
    pace = parse('type = "no-failed-units"')[1]
    assert (pace.timeout_seconds, pace.retries, pace.retry_delay_seconds, pace.settle_seconds) == (10, 2, 1, 0)


def test_a_required_check_counts_only_as_a_regression_unless_it_says_always() -> None:
    assert check('type = "no-failed-units"').count == "regression"
    assert check('type = "no-failed-units"\ncount = "always"').count == "always"


def test_a_wanted_check_can_not_count() -> None:
    with pytest.raises(ConfigError, match="never counts"):
        check('type = "no-failed-units"\ncount = "always"', "wanted")


def test_checks_run_side_by_side_unless_they_say_otherwise() -> None:
    assert check('type = "no-failed-units"').parallel
    assert not check('type = "no-failed-units"\nparallel = false').parallel


def test_each_type_is_where_it_is_looked_for_and_makes_probes_of_its_name() -> None:
    for name in TYPES:
        assert described(name).build.type == name  # type: ignore[attr-defined]


def test_an_unknown_key_is_named_with_its_line_and_the_keys_that_there_are() -> None:
    message = error('type = "tcp"\nhost = "localhost"\nprot = 80\n')
    assert message.startswith(f"{FILE}:3: prot: ")
    assert "port" in message


def test_a_key_of_another_type_is_unknown() -> None:
    assert f"{FILE}:2: url: " in error('type = "no-failed-units"\nurl = "http://localhost/"')


def test_a_syntax_error_is_named_with_its_line() -> None:
    assert error('type = "tcp"\nhost = \n').startswith(f"{FILE}:2: it is not TOML")


def test_text_that_is_not_utf8_is_named_with_its_line() -> None:
    assert error(b'type = "tcp"\nhost = "\xff"').startswith(f"{FILE}:2: it is not UTF-8")


def test_an_unknown_type_is_answered_with_the_types() -> None:
    assert "disk-space" in error('type = "dsik"')
    assert "disk-space" in error("")
    assert "disk-space" in error("type = 3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("type = true", "there is no type true."),
        ('type = "dsik"', 'there is no type "dsik".'),
        ('type = "no-failed-units"\nparallel = "no"', '"no" is neither true nor false.'),
        ('type = "exec"\ncommand = ["true", 1]', '["true", 1] has an argument that is not a text.'),
        ('type = "no-failed-units"\ncount = true',
         'true can\'t be chosen. Write one of "regression", "always".'),
        ('type = "no-failed-units"\nsettle_seconds = { a = true }', "{ a = true } is out of range."),
    ],
)  # fmt: skip
def test_a_value_is_told_as_it_is_written_in_the_file(text: str, told: str) -> None:
    assert told in error(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('type = "exec"', "command"),
        ('type = "exec"\ncommand = "true"', "command"),
        ('type = "exec"\ncommand = []', "command"),
        ('type = "exec"\ncommand = ["true", 1]', "command"),
        ('type = "exec"\ncommand = ["tr\\u0000ue"]', "command"),
        ('type = "unit"\nunit = "sshd"', "unit"),
        ('type = "unit"\nunit = "--help.service x"', "unit"),
        ('type = "http"\nurl = "ftp://localhost/"', "url"),
        ('type = "http"\nurl = "http:///x"', "url"),
        ('type = "http"\nurl = "http://localhost:99999/"', "url"),
        ('type = "http"\nurl = "http://u:p@localhost/"', "url"),
        ('type = "http"\nurl = "http://localhost/a b"', "url"),
        ('type = "http"\nurl = "http://localhost/"\nstatus = 99', "status"),
        ('type = "http"\nurl = "http://localhost/"\nstatus = true', "status"),
        ('type = "tcp"\nhost = "localhost"\nport = 0', "port"),
        ('type = "tcp"\nhost = "localhost"\nport = "80"', "port"),
        ('type = "tcp"\nhost = ""\nport = 80', "host"),
        ('type = "disk-space"\npath = "var"\nfree_bytes = 1', "path"),
        ('type = "disk-space"\npath = "/var"', "free_percent"),
        ('type = "disk-space"\npath = "/var"\nfree_percent = 101', "free_percent"),
        ('type = "disk-space"\npath = "/var"\nfree_percent = nan', "free_percent"),
        ('type = "disk-space"\npath = "/var"\nfree_bytes = 1.5', "free_bytes"),
        ('type = "mount"\npath = "/"\noptions = "ro"', "options"),
        ('type = "no-failed-units"\ntimeout_seconds = 0', "timeout_seconds"),
        ('type = "no-failed-units"\ntimeout_seconds = inf', "timeout_seconds"),
        ('type = "no-failed-units"\nretries = -1', "retries"),
        ('type = "no-failed-units"\nretries = 1.0', "retries"),
        ('type = "no-failed-units"\ncount = "never"', "count"),
        ('type = "no-failed-units"\nparallel = "no"', "parallel"),
        ('type = "unit"\nunit = "x.service"\nmax_restarts = -1', "max_restarts"),
        ('type = "dbus-name"', "name"),
        ('type = "dbus-name"\nname = ":1.7"', "name"),
        ('type = "dbus-name"\nname = "--help"', "name"),
        ('type = "unix-socket"\npath = "run/x"', "path"),
        ('type = "route"\nfamily = "ipx"', "family"),
        ('type = "kernel"\ntaint_allowed = ["PO"]', "taint_allowed"),
        ('type = "kernel"\ntaint_allowed = ["p"]', "taint_allowed"),
        ('type = "pressure"\nwindow_seconds = 60', "cpu_percent"),
        ('type = "pressure"\ncpu_percent = 101', "cpu_percent"),
        ('type = "pressure"\ncpu_percent = 1\nwindow_seconds = 15', "window_seconds"),
        ('type = "pressure"\ncpu_percent = 1\nwindow_seconds = true', "window_seconds"),
        ('type = "container-runtime"', "runtime"),
        ('type = "container-runtime"\nruntime = "rkt"', "runtime"),
    ],
)
def test_a_wrong_or_missing_value_is_refused_by_its_key(text: str, key: str) -> None:
    message = error(text)
    assert message.startswith(FILE)
    assert key in message


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_whatever_the_bytes_are_the_only_error_is_a_configuration_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_check(data, FILE, "required", "web")


VALUES = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.sampled_from(['"x"', '"/x"', '"x.service"']),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(
    ["command", "unit", "ignore", "url", "status", "host", "port", "path", "free_bytes", "options", "retries", "count",
     "parallel", "max_restarts", "name", "family", "taint_allowed", "cpu_percent", "window_seconds", "runtime", "node"]
)


@given(
    st.sampled_from(TYPES),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
def test_whatever_the_values_are_the_only_error_is_a_configuration_error(name: str, values: dict[str, object]) -> None:
    lines = [f"{key} = {str(value).replace(chr(39), '').lower()}" for key, value in values.items()]
    try:
        probe, _ = parse("\n".join([f'type = "{name}"', *lines]))
    except ConfigError:
        return
    assert probe.type == name


def test_deep_nesting_is_a_configuration_error() -> None:
    assert "it is not TOML" in error("a = " + "[" * 100_000)
