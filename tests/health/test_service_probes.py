"""Services of a node: sockets, names on a bus, HTTPS, the kubelet, the API server, container runtimes; real ones."""

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from health.check import Attempt, Check, Pace, Probe
from health.probes import Surroundings, attempt
from health.probes.bus import BusNameProbe
from health.probes.containers import SOCKETS, RuntimeProbe
from health.probes.kubernetes import KubeletProbe, NodeReadyProbe, parse_kubeconfig
from health.probes.network import LONGEST_ADDRESS, HttpProbe, UnixSocketProbe
from tests.health.conftest import Put


def try_once(probe: Probe, timeout_seconds: float = 10, root: str | Path = "/") -> Attempt:
    return attempt(Check("required", "it", probe, Pace(timeout_seconds=timeout_seconds)), Surroundings.of(str(root)))


def until(ready: Callable[[], bool]) -> None:
    for _ in range(400):
        if ready():
            return
        time.sleep(0.05)
    pytest.fail("a server did not come up within 20 seconds")


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(10)
            running.kill()


# ------------------------------------------------------------------------------------------------------------- sockets


@contextmanager
def listening(path: Path | str, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            server.listen(8)
        yield server


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_socket_that_accepts_passes_whatever_it_carries(tmp_path: Path, kind: socket.SocketKind) -> None:
    with listening(tmp_path / "s", kind):
        assert try_once(UnixSocketProbe(f"{tmp_path}/s")) == Attempt("pass", f"{tmp_path}/s accepts connections")


def test_a_socket_that_was_left_behind_fails_and_may_be_tried_again(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        pass
    made = try_once(UnixSocketProbe(f"{tmp_path}/s"))
    assert (made.result, made.final) == ("fail", False)
    assert "Connection refused" in made.output


def test_a_socket_that_is_not_there_or_is_a_file_fails(tmp_path: Path, put: Put) -> None:
    assert "No such file" in try_once(UnixSocketProbe(f"{tmp_path}/no")).output
    put("file")
    assert try_once(UnixSocketProbe(f"{tmp_path}/file")).result == "fail"


def test_a_socket_whose_queue_is_full_fails_within_the_time(tmp_path: Path) -> None:
    with listening(tmp_path / "s") as server, socket.socket(socket.AF_UNIX) as first:
        server.listen(0)
        first.connect(str(tmp_path / "s"))
        assert try_once(UnixSocketProbe(f"{tmp_path}/s"), timeout_seconds=0.2).result in ("fail", "timeout")


def test_a_path_that_is_longer_than_an_address_may_be_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * LONGEST_ADDRESS)
    folder.mkdir()
    here = os.open(folder, os.O_PATH)
    with listening(f"/proc/self/fd/{here}/s"):
        assert try_once(UnixSocketProbe(f"{folder}/s")).result == "pass"
    assert "Connection refused" in try_once(UnixSocketProbe(f"{folder}/s")).output
    os.close(here)


def test_below_another_root_a_socket_is_that_of_the_path_inside(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        assert try_once(UnixSocketProbe("/s"), root=tmp_path).result == "pass"


# ----------------------------------------------------------------------------------------------------------------- bus


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    address = f"unix:path={tmp_path}/bus"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    with process("dbus-daemon", "--session", "--nofork", f"--address={address}"):
        until((tmp_path / "bus").exists)
        yield address


def test_a_name_that_nobody_owns_fails_and_may_be_tried_again(bus: str) -> None:
    made = try_once(BusNameProbe("org.example.Web"))
    assert made == Attempt("fail", "nobody owns org.example.Web on the system bus")


OWN = """
import asyncio, sys
from dbus_next.aio import MessageBus
async def own() -> None:
    await (await MessageBus(sys.argv[1]).connect()).request_name("org.example.Web")
    await asyncio.sleep(60)
asyncio.run(own())
"""


def test_a_name_that_somebody_owns_passes(bus: str) -> None:
    with process(sys.executable, "-c", OWN, bus):
        until(lambda: try_once(BusNameProbe("org.example.Web")).result == "pass")
    assert try_once(BusNameProbe("org.freedesktop.DBus")).result == "pass"


def test_a_bus_that_is_not_there_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no")
    made = try_once(BusNameProbe("org.example.Web"))
    assert (made.result, made.final) == ("fail", False)
    assert "busctl: exit status 1" in made.output


def test_a_bus_that_says_nothing_is_a_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/mute")
    with listening(tmp_path / "mute"):
        assert try_once(BusNameProbe("org.example.Web"), timeout_seconds=0.3).result == "timeout"


def test_below_another_root_there_is_no_bus(tmp_path: Path) -> None:
    assert try_once(BusNameProbe("org.example.Web"), root=tmp_path) == Attempt("skip", "no bus below --root")


# --------------------------------------------------------------------------------------------------------------- HTTPS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with crt.pem and key.pem, for 127.0.0.1 and by its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "crt.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def nginx(tmp_path: Path, certificate: Path) -> Iterator[tuple[int, int]]:
    """The ports of a real nginx: HTTP, and HTTPS that asks for no certificate. /healthz says ok."""
    plain, tls = free_port(), free_port()
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f"server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;\n"
        f"ssl_certificate {certificate}/crt.pem; ssl_certificate_key {certificate}/key.pem;\n"
        "location /healthz { return 200 ok; } location /sick { return 500 'etcd failed: no leader'; } } }\n"
    )
    with process("nginx", "-c", f"{tmp_path}/nginx.conf", "-e", f"{tmp_path}/errors"):
        until(lambda: try_once(HttpProbe(f"http://127.0.0.1:{plain}/healthz")).result == "pass")
        yield plain, tls


def test_https_is_not_believed_without_a_known_authority(nginx: tuple[int, int]) -> None:
    made = try_once(HttpProbe(f"https://127.0.0.1:{nginx[1]}/healthz"))
    assert made.result == "fail"
    assert "certificate verify failed" in made.output


def test_https_passes_with_an_authority_that_the_machine_knows(
    nginx: tuple[int, int], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "crt.pem"))
    assert try_once(HttpProbe(f"https://127.0.0.1:{nginx[1]}/healthz", contains="ok")).result == "pass"


# ---------------------------------------------------------------------------------------------------------- Kubernetes


def test_a_kubelet_that_is_not_there_fails_and_may_be_tried_again() -> None:
    made = try_once(KubeletProbe(f"http://127.0.0.1:{free_port()}/healthz"))
    assert (made.result, made.final) == ("fail", False)


def test_a_kubelet_that_says_that_it_is_sick_fails(nginx: tuple[int, int]) -> None:
    assert "500" in try_once(KubeletProbe(f"http://127.0.0.1:{nginx[0]}/sick")).output


def test_a_kubelet_that_says_ok_passes(nginx: tuple[int, int]) -> None:
    assert try_once(KubeletProbe(f"http://127.0.0.1:{nginx[0]}/healthz")).result == "pass"


class Server(BaseHTTPRequestHandler):
    """The one request of the API server that is asked for, with the shape of its answers."""

    conditions: ClassVar[dict[str, object]] = {}
    token: ClassVar[str | None] = None

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/v1/nodes/")
        if self.token is not None and self.headers["Authorization"] != f"Bearer {self.token}":
            status, body = 401, {"kind": "Status", "status": "Failure", "code": 401}
        elif name not in self.conditions:
            status, body = 404, {"kind": "Status", "status": "Failure", "code": 404}
        else:
            status, body = 200, {"kind": "Node", "status": {"conditions": self.conditions[name]}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """The test's output is no place for an access log."""


def ready(status: str, message: str) -> list[dict[str, str]]:
    return [
        {"type": "MemoryPressure", "status": "False", "message": "enough memory"},
        {"type": "Ready", "status": status, "message": message},
    ]


@pytest.fixture
def cluster(certificate: Path) -> Iterator[str]:
    """The address of a server that speaks TLS and asks for a client certificate, as the API server does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "crt.pem", certificate / "key.pem")
    context.load_verify_locations(certificate / "crt.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    Server.token = None
    Server.conditions = {
        "n1": ready("True", "kubelet is posting ready status"),
        "n2": ready("False", "container runtime network not ready"),
        "n3": ready("Unknown", "Kubelet stopped posting node status."),
        "n4": [],
        os.uname().nodename.lower(): ready("True", "kubelet is posting ready status"),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def kubeconfig(server: str, cluster: str, user: str) -> str:
    """As kubeadm writes it for the kubelet."""
    return (
        "apiVersion: v1\nclusters:\n- cluster:\n"
        f"    {cluster}\n    server: {server}\n  name: default-cluster\n"
        "contexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n"
        "  name: default-context\ncurrent-context: default-context\nkind: Config\npreferences: {}\n"
        f"users:\n- name: default-auth\n  user:\n    {user}\n"
    )


def encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@pytest.fixture
def config(cluster: str, certificate: Path, put: Put) -> str:
    files = f"client-certificate: {certificate}/crt.pem\n    client-key: {certificate}/key.pem"
    return str(put("kubelet.conf", kubeconfig(cluster, f"certificate-authority: {certificate}/crt.pem", files)))


@pytest.mark.parametrize(
    ("node", "result", "told"),
    [
        ("n1", "pass", "node n1 is ready"),
        ("n2", "fail", "node n2 is not ready: container runtime network not ready"),
        ("n3", "fail", "node n3 is not ready: Kubelet stopped posting node status."),
        ("n4", "fail", "the API server does not say whether node n4 is ready"),
        ("n5", "fail", "answers 404"),
    ],
)
def test_a_node_is_ready_when_the_cluster_says_so(config: str, node: str, result: str, told: str) -> None:
    made = try_once(NodeReadyProbe(config, node))
    assert (made.result, made.final) == (result, False)
    assert told in made.output


def test_a_node_has_the_name_of_the_machine_by_default(config: str) -> None:
    assert try_once(NodeReadyProbe(config)).result == "pass"


def test_certificates_may_stand_in_the_kubeconfig_itself(cluster: str, certificate: Path, put: Put) -> None:
    authority = f"certificate-authority-data: {encoded(certificate / 'crt.pem')}"
    user = (
        f"client-certificate-data: {encoded(certificate / 'crt.pem')}\n"
        f"    client-key-data: {encoded(certificate / 'key.pem')}"
    )
    assert try_once(NodeReadyProbe(str(put("k", kubeconfig(cluster, authority, user))), "n1")).result == "pass"


def test_a_token_is_shown_to_the_server(cluster: str, certificate: Path, put: Put) -> None:
    Server.token = "secret"
    authority = f'certificate-authority: "{certificate}/crt.pem"'
    put("token", "secret\n")

    def shown(user: str) -> Attempt:
        return try_once(NodeReadyProbe(str(put("k", kubeconfig(cluster, authority, user))), "n1"))

    assert (shown("token: secret").result, shown("tokenFile: token").result) == ("pass", "pass")
    wrong = shown("token: other")
    assert "answers 401" in wrong.output
    assert "other" not in wrong.output


def test_a_server_of_another_authority_is_not_believed(cluster: str, certificate: Path, put: Put) -> None:
    put("other.pem", (certificate / "crt.pem").read_text())
    config = put("k", kubeconfig(cluster, "certificate-authority: /etc/ssl/certs/ca-certificates.crt", "token: x"))
    if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
        pytest.skip("this machine knows no authorities")
    made = try_once(NodeReadyProbe(str(config), "n1"))
    assert made.result == "fail"
    assert "certificate verify failed" in made.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no server"),
        ("clusters:\n- cluster:\n    server: http://127.0.0.1\n", "no server with https"),
        ("    server: https://a\n    server: https://b\n", "server more than once"),
        ("    server: https://a\n    token: a\n    token: b\n", "token more than once"),
        ("    server: https://a\n    certificate-authority-data: '%%'\n", "base64"),
    ],
)
def test_a_kubeconfig_that_can_not_be_understood_is_refused(put: Put, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_kubeconfig(text, "/")
    made = try_once(NodeReadyProbe(str(put("k", text)), "n1"))
    assert made.result == "fail"
    assert told in made.output


def test_a_kubeconfig_that_is_not_there_fails_and_may_come() -> None:
    made = try_once(NodeReadyProbe("/no/kubelet.conf", "n1"))
    assert made == Attempt("fail", "/no/kubelet.conf: No such file or directory")


# ---------------------------------------------------------------------------------------------------------- containers


@pytest.fixture
def podman() -> Iterator[str]:
    """The socket of a real podman, which keeps all that it has below a folder whose path is as short as it wants."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    with tempfile.TemporaryDirectory(prefix="podman", ignore_cleanup_errors=True) as folder:
        yield from serving(folder)


def serving(folder: str) -> Iterator[str]:
    path = f"{folder}/podman.sock"
    places = (f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp")
    options = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file")
    with process("podman", *places, *options, "system", "service", "--time=0", f"unix://{path}") as running:
        for _ in range(200):
            if try_once(RuntimeProbe("podman", path)).result == "pass":
                break
            if running.poll() is not None:
                assert running.stderr is not None
                pytest.skip(f"podman does not run here: {running.stderr.read().decode()[-200:]}")
            time.sleep(0.1)
        yield path


def test_a_runtime_that_answers_a_ping_passes(podman: str) -> None:
    made = try_once(RuntimeProbe("podman", podman))
    assert made == Attempt("pass", f"{podman}/_ping answers 200 OK")
    assert try_once(RuntimeProbe("docker", podman)).result == "pass"  # podman speaks Docker's API
    assert try_once(RuntimeProbe("containerd", podman)).result == "pass"  # a connection is all that is asked for


@pytest.mark.parametrize("runtime", SOCKETS)
def test_a_runtime_that_is_not_there_fails_and_may_come(tmp_path: Path, runtime: str) -> None:
    probe = replace(RuntimeProbe("podman", f"{tmp_path}/no"), runtime=runtime)  # type: ignore[arg-type]
    made = try_once(probe)
    assert (made.result, made.final) == ("fail", False)
    assert "No such file" in made.output


def test_a_socket_behind_which_nobody_answers_is_not_taken_for_docker(tmp_path: Path) -> None:
    """As when systemd listens for a daemon that does not start."""
    with listening(tmp_path / "s"):
        assert try_once(RuntimeProbe("docker", f"{tmp_path}/s"), timeout_seconds=0.2).result == "timeout"
        assert try_once(RuntimeProbe("crio", f"{tmp_path}/s")).result == "pass"


def test_the_usual_sockets_are_looked_for_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "run/containerd").mkdir(parents=True)
    with listening(tmp_path / "run/containerd/containerd.sock"):
        assert try_once(RuntimeProbe("containerd"), root=tmp_path).result == "pass"
