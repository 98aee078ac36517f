"""Keys that never leave their place: tokens (PKCS #11) and key services, through securesystemslib's signers.

A URI says where such a key is: `hsm:2?label=TOKEN`, `awskms:…`, `gcpkms:…`, `azurekms:…`, `hv:…`. The variable
PYKCS11LIB names the PKCS #11 module of a token; the services find their credentials as their own tools do.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (  # type: ignore[attr-defined]
    AWSSigner,
    AzureSigner,
    GCPSigner,
    HSMSigner,
    Signer,
    SSlibKey,
    VaultSigner,
)

from updated.core.errors import UpdatedError
from updated.publish.keyrecord import KeyRecord, refused

T = TypeVar("T")
PIN_VARIABLE: Final = "RELEASECTL_PIN"
EXTRAS: Final[Mapping[str, str]] = {
    "hsm": "hsm", "awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault",
}  # fmt: skip
"""By the scheme of a URI: the extra of this package that brings its library."""


class _PinWanted(Exception):
    """The token shows the key only to those who have its PIN."""


def scheme_of(uri: str) -> str:
    """The scheme of the URI of a key."""
    return uri.partition(":")[0]


def imported(uri: str, name: str) -> tuple[str, SSlibKey]:
    """The complete URI and the public part of the key at `uri`, after it has signed something as a proof.

    Raises `UpdatedError` ("bad-key").
    """
    if scheme_of(uri) not in EXTRAS:
        raise refused(
            f"the key {uri}", "is at no known kind of place", f"Begin with one of {', '.join(f'{x}:' for x in EXTRAS)}."
        )
    pin = _pin(name)
    whole, key = _tried(uri, lambda: _import(uri, pin))
    signer = opened(KeyRecord(name, key, whole), pin)
    proof = b"releasectl key import"
    _tried(uri, lambda: key.verify_signature(signer.sign(proof), proof))
    return whole, key


def opened(record: KeyRecord, pin: Callable[[str], str] | None = None) -> Signer:
    """The signer of a record with such a URI. Raises `UpdatedError` ("bad-key")."""
    uri = record.private or ""
    return _tried(uri, lambda: Signer.from_priv_key_uri(uri, record.key, pin or _pin(record.name)))


def fault(record: KeyRecord) -> str | None:
    """Why a token does not have the key of `record` now; None when it has it, and for services, which are not asked.

    Raises `UpdatedError` ("bad-key") when there is another key in its place.
    """
    uri = record.private or ""
    if scheme_of(uri) != HSMSigner.SCHEME:
        return None

    def locked(secret: str) -> str:
        raise _PinWanted

    try:
        _, key = _import(uri, locked)
    except _PinWanted:
        return None
    except UnsupportedLibraryError:
        return f"needs the library of {_install(uri)}"
    except Exception as error:  # what a PKCS #11 module may raise is not listed anywhere
        return _words(error)
    if key != record.key:
        raise refused(f"the key {record.name}", f"is another one at {uri}", "Plug in the token that has it.")
    return None


def _import(uri: str, pin: Callable[[str], str]) -> tuple[str, SSlibKey]:
    scheme, _, place = uri.partition(":")
    if scheme == HSMSigner.SCHEME:
        parts = urlsplit(uri)
        number = int(parts.path) if parts.path else None
        return HSMSigner.import_(number, dict(parse_qsl(parts.query)).get("label"), pin)
    if scheme == AzureSigner.SCHEME:
        # azurekms://VAULT.vault.azure.net/keys/NAME, as securesystemslib writes it.
        parts = urlsplit(uri)
        return AzureSigner.import_(parts.netloc.partition(".")[0], parts.path.split("/")[2])
    if scheme == VaultSigner.SCHEME:
        return VaultSigner.import_(place.partition("/")[0])
    return (AWSSigner if scheme == AWSSigner.SCHEME else GCPSigner).import_(place)


def _tried(uri: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except UpdatedError:
        raise
    except UnsupportedLibraryError:
        raise refused(f"the key {uri}", "needs a library that is missing", f"Install it: {_install(uri)}.") from None
    except Exception as error:  # whatever a driver or a service raises, the key can't be had
        raise refused(f"the key {uri}", _words(error), "Check the place, its credentials and its PIN.") from None


def _install(uri: str) -> str:
    return f"pip install 'updated[{EXTRAS[scheme_of(uri)]}]'"


def _words(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _pin(name: str) -> Callable[[str], str]:
    """Asks for the PIN once: a token counts wrong ones, and locks itself."""
    known: list[str] = []

    def ask(secret: str) -> str:
        if not known:
            known.append(_asked(name))
        return known[0]

    return ask


def _asked(name: str) -> str:
    value = os.environ.get(PIN_VARIABLE)
    if value:
        return value
    if not sys.stdin.isatty():
        raise refused(f"the key {name}", "needs a PIN", f"Set {PIN_VARIABLE}, or run this in a terminal.")
    return getpass.getpass(f"PIN of the key {name}: ")
