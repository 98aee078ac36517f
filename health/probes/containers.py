"""Container runtimes, through their sockets."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from health import keys
from health.check import Attempt
from health.probes import Surroundings
from health.probes.network import HttpProbe, UnixSocketProbe, connect_unix

Runtime = Literal["containerd", "crio", "docker", "podman"]

SOCKETS: dict[Runtime, str] = {
    "containerd": "/run/containerd/containerd.sock",
    "crio": "/run/crio/crio.sock",
    "docker": "/run/docker.sock",
    "podman": "/run/podman/podman.sock",
}
_SPEAK_HTTP = ("docker", "podman")


@dataclass(frozen=True, slots=True)
class RuntimeProbe:
    """The socket of the `runtime` (None: where it usually is) accepts connections; docker and podman answer a ping.

    Behind the socket of those two systemd may listen while the daemon is dead: a connection alone shows nothing.
    """

    type: ClassVar[str] = "container-runtime"
    runtime: Runtime
    path: str | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        path = self.path or SOCKETS[self.runtime]
        connected = UnixSocketProbe(path).attempt(timeout, around)
        if connected.result != "pass" or self.runtime not in _SPEAK_HTTP:
            return connected
        from http.client import HTTPConnection

        connection = HTTPConnection("localhost", timeout=timeout)
        connection.sock = connect_unix(around, path, timeout)
        return HttpProbe(f"{path}/_ping", 200, "OK").judge(connection, "/_ping", timeout)


TYPES = {
    RuntimeProbe.type: keys.Type(
        RuntimeProbe, {"runtime": keys.one_of(*SOCKETS), "path": keys.path}, needed=("runtime",)
    )
}
