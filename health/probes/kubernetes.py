"""The node agent of Kubernetes, and what the cluster thinks of the node; no client library and no kubectl is needed."""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings, cause
from health.probes.network import HttpProbe, get
from health.rootdir import below

if TYPE_CHECKING:
    import ssl

HEALTHZ = "http://127.0.0.1:10248/healthz"
KUBECONFIG = "/etc/kubernetes/kubelet.conf"
NODE_LIMIT = 4 * 1024 * 1024
"""Bytes of a node object, which lists images and volumes."""


@dataclass(frozen=True, slots=True)
class KubeletProbe:
    """The kubelet says on its own machine that it is well."""

    type: ClassVar[str] = "kubelet"
    url: str = HEALTHZ

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        return HttpProbe(self.url, 200, "ok").attempt(timeout, around)


@dataclass(frozen=True, slots=True)
class NodeReadyProbe:
    """The cluster holds this node for ready, asked with the kubelet's own credentials.

    `node` None: the host name, as the kubelet takes it. It fails when the API server can't be reached, too.
    """

    type: ClassVar[str] = "node-ready"
    kubeconfig: str = KUBECONFIG
    node: str | None = None

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        import http.client
        from urllib.parse import quote, urlsplit

        try:
            with open(below(around.root, self.kubeconfig), encoding="utf-8") as file:
                access = parse_kubeconfig(file.read(), os.path.dirname(self.kubeconfig))
            context = _context(access, around.root)
            token = access.token or _token(access, around.root)
        except (OSError, ValueError) as error:
            return Attempt("fail", f"{self.kubeconfig}: {cause(error)}")
        server = urlsplit(access.server)
        name = self.node or os.uname().nodename.lower()
        connection = http.client.HTTPSConnection(server.hostname or "", server.port, timeout=timeout, context=context)
        target = f"{server.path.rstrip('/')}/api/v1/nodes/{quote(name, safe='')}"
        answer = get(connection, access.server, target, timeout, NODE_LIMIT, f"Bearer {token}" if token else None)
        if isinstance(answer, Attempt):
            return answer
        if answer.status != 200:
            return Attempt("fail", f"{access.server} answers {answer.status} {answer.reason} for node {name}")
        return _judge(name, answer.body)


def _judge(name: str, body: bytes) -> Attempt:
    import json

    try:
        conditions = json.loads(body)["status"]["conditions"]
        ready = next(condition for condition in conditions if condition["type"] == "Ready")
        status = str(ready["status"])
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return Attempt("fail", f"the API server does not say whether node {name} is ready")
    if status == "True":
        return Attempt("pass", f"node {name} is ready")
    return Attempt("fail", f"node {name} is not ready: {ready.get('message') or status}")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a cluster. Of each pair at most one is given: a path, or the content in PEM."""

    server: str
    authority: str | None = None
    authority_data: str | None = None
    certificate: str | None = None
    certificate_data: str | None = None
    key: str | None = None
    key_data: str | None = None
    token: str | None = None
    token_file: str | None = None


def parse_kubeconfig(text: str, folder: str) -> Access:
    """What a kubeconfig of one cluster and one user says, in YAML's block style, as kubeadm and k3s write it.

    Relative paths are taken from `folder`. Raises ValueError when it can't be understood in this plain way.
    """

    def value(key: str) -> str | None:
        found = re.findall(rf"^[ \t]*(?:- )?{key}:[ \t]*(['\"]?)(\S+)\1[ \t]*$", text, re.MULTILINE)
        if len(found) > 1:
            raise ValueError(f"it has {key} more than once; name a file with one cluster and one user")
        return str(found[0][1]) if found else None

    def path(key: str) -> str | None:
        told = value(key)
        return None if told is None else os.path.join(folder, told)

    def content(key: str) -> str | None:
        import base64

        told = value(key)
        return None if told is None else base64.b64decode(told, validate=True).decode("ascii")

    server = value("server")
    if server is None or not server.startswith("https://"):
        raise ValueError("it names no server with https")
    return Access(
        server,
        path("certificate-authority"),
        content("certificate-authority-data"),
        path("client-certificate"),
        content("client-certificate-data"),
        path("client-key"),
        content("client-key-data"),
        value("token"),
        path("tokenFile"),
    )


def _context(access: Access, root: str) -> "ssl.SSLContext":
    import ssl

    authority = None if access.authority is None else below(root, access.authority)
    context = ssl.create_default_context(cafile=authority, cadata=access.authority_data)
    pem = "".join(part for part in (access.certificate_data, access.key_data) if part is not None)
    if access.certificate is not None:
        context.load_cert_chain(
            below(root, access.certificate), None if access.key is None else below(root, access.key)
        )
    elif pem:
        # The ssl module reads keys from files alone; this one has no name, and is gone with its descriptor.
        with open(os.memfd_create("updated-health"), "wb") as file:
            file.write(pem.encode())
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _token(access: Access, root: str) -> str | None:
    if access.token_file is None:
        return None
    with open(below(root, access.token_file), encoding="ascii") as file:
        return file.read().strip()


TYPES = {
    KubeletProbe.type: keys.Type(KubeletProbe, {"url": keys.url}),
    NodeReadyProbe.type: keys.Type(NodeReadyProbe, {"kubeconfig": keys.path, "node": keys.text}),
}
