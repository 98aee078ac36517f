"""On https, nothing is taken from a server that the configured authorities don't vouch for."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.http.conftest import Opener
from tests.http.server import ScriptedServer, body, redirect
from updated.core.errors import UpdatedError
from updated.http import HttpSettings


@dataclass(frozen=True)
class Tls:
    """A certificate with its key for 127.0.0.1 and localhost, which is its own authority."""

    pem: str

    def context(self, *, ask_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.pem)
        return context


def _certificate(path: Path, *, address: str = "127.0.0.1", days: int = 10) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return Tls(str(path))


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return _certificate(tmp_path / "server.pem")


def test_a_server_with_a_known_certificate_is_read(opened: Opener, tls: Tls) -> None:
    with ScriptedServer(body(b"x"), tls=tls.context()) as server:
        source = opened(server.url, HttpSettings(ca_bundle=tls.pem))
        assert source.read("x", 10) == b"x"
        source.close()


def test_an_unknown_certificate_is_refused_at_once_and_named(opened: Opener, tls: Tls, tmp_path: Path) -> None:
    other = _certificate(tmp_path / "other.pem")
    with ScriptedServer(body(b"x"), tls=tls.context()) as server, pytest.raises(UpdatedError) as refused:
        opened(server.url, HttpSettings(ca_bundle=other.pem)).read("x", 10)
    assert refused.value.code == "unreachable"
    assert "certificate" in refused.value.cause
    assert "self" in refused.value.cause
    assert server.requests == []


def test_an_expired_certificate_is_named(opened: Opener, tmp_path: Path) -> None:
    tls = _certificate(tmp_path / "expired.pem", days=-1)
    with ScriptedServer(body(b"x"), tls=tls.context()) as server, pytest.raises(UpdatedError) as refused:
        opened(server.url, HttpSettings(ca_bundle=tls.pem)).read("x", 10)
    assert refused.value.code == "unreachable"
    assert "expired" in refused.value.cause
    assert "clock" in refused.value.mend


def test_a_certificate_for_another_host_is_named(opened: Opener, tmp_path: Path) -> None:
    tls = _certificate(tmp_path / "wrong.pem", address="192.0.2.1")
    with ScriptedServer(body(b"x"), tls=tls.context()) as server, pytest.raises(UpdatedError) as refused:
        opened(server.url, HttpSettings(ca_bundle=tls.pem)).read("x", 10)
    assert refused.value.code == "unreachable"
    assert "127.0.0.1" in refused.value.cause


def test_the_client_certificate_is_shown_to_the_server(opened: Opener, tls: Tls) -> None:
    with ScriptedServer(body(b"x"), tls=tls.context(ask_client=True)) as server:
        source = opened(server.url, HttpSettings(ca_bundle=tls.pem, client_certificate=tls.pem))
        assert source.read("x", 10) == b"x"
        source.close()
        without = opened(server.url, HttpSettings(ca_bundle=tls.pem, retries=0))
        with pytest.raises(UpdatedError) as refused:
            without.read("x", 10)
    assert refused.value.code in ("unreachable", "truncated")


def test_the_client_certificate_is_not_shown_to_other_hosts(opened: Opener, tls: Tls) -> None:
    with ScriptedServer(body(b"x"), tls=tls.context(ask_client=True)) as other:
        location = f"https://localhost:{other.port}/x"
        with ScriptedServer(redirect(location), tls=tls.context()) as server:
            settings = HttpSettings(
                ca_bundle=tls.pem, client_certificate=tls.pem, redirect_hosts=("localhost",), retries=0
            )
            source = opened(server.url, settings)
            with pytest.raises(UpdatedError):
                source.read("x", 10)
            source.close()
    assert other.requests == []


def test_a_redirect_to_an_allowed_host_is_followed(opened: Opener, tls: Tls) -> None:
    with (
        ScriptedServer(body(b"x"), tls=tls.context()) as other,
        ScriptedServer(redirect(f"https://localhost:{other.port}/y"), tls=tls.context()) as server,
    ):
        source = opened(server.url, HttpSettings(ca_bundle=tls.pem, redirect_hosts=("localhost",)))
        assert source.read("x", 10) == b"x"
        source.close()
    assert other.requests[0].path == "/y"


@pytest.mark.parametrize("location", ["https://localhost/y", "http://127.0.0.1/y"], ids=["other host", "plain http"])
def test_other_redirects_are_refused(opened: Opener, tls: Tls, location: str) -> None:
    with ScriptedServer(redirect(location), tls=tls.context()) as server:
        source = opened(server.url, HttpSettings(ca_bundle=tls.pem))
        with pytest.raises(UpdatedError) as refused:
            source.read("x", 10)
        source.close()
    assert refused.value.code == "bad-redirect"
    assert location in str(refused.value)


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate"])
def test_a_missing_file_is_a_mistake_in_the_configuration(opened: Opener, tls: Tls, setting: str) -> None:
    files = {"ca_bundle": tls.pem, "client_certificate": tls.pem} | {setting: "/nowhere/missing.pem"}
    with pytest.raises(UpdatedError) as refused:
        opened("https://127.0.0.1/", HttpSettings(**files))  # type: ignore[arg-type]
    assert refused.value.code == "bad-config"
    assert "/nowhere/missing.pem" in str(refused.value)
