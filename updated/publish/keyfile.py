"""Private keys in PEM files (PKCS #8, RFC 5958), encrypted when there is a passphrase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from updated.core.document import Misfit
from updated.publish.keyrecord import known_key, refused

PASSPHRASE_VARIABLE = "RELEASECTL_PASSPHRASE"  # noqa: S105
MAX_LENGTH: Final = 65536
SCHEMES: Final[Mapping[str, Callable[[], CryptoSigner]]] = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa-p256": CryptoSigner.generate_ecdsa,
    "rsa-pss": CryptoSigner.generate_rsa,
    "ml-dsa-65": CryptoSigner.generate_mldsa,
}
"""How new keys sign, by the names that people use. RSA keys have 3072 bits."""


def generate(scheme: str, passphrase: bytes | None) -> tuple[bytes, SSlibKey]:
    """A new key: the bytes of its file, and its public part. Raises `UpdatedError` ("bad-key")."""
    try:
        signer = SCHEMES[scheme]()
    except UnsupportedLibraryError as error:
        raise refused(
            f"a key of the scheme {scheme}", str(error), "Install a newer one, or choose another scheme."
        ) from None
    return encrypted(signer.private_bytes, None, passphrase, "the new key"), signer.public_key


def encrypted(data: bytes, old: bytes | None, new: bytes | None, what: str) -> bytes:
    """The key file `data`, which the passphrase `old` opens, as one that `new` opens. Raises as `opened`."""
    encryption: KeySerializationEncryption = NoEncryption() if new is None else BestAvailableEncryption(new)
    private = _private(data, old, what)
    changed: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return changed


def opened(data: bytes, passphrase: bytes | None, what: str) -> CryptoSigner:
    """The signer of the key file `data`. Raises `UpdatedError` ("bad-key") when it does not open or is of no use."""
    private = _private(data, passphrase, what)
    try:
        key = SSlibKey.from_crypto(private.public_key())
        known_key(key.keytype, key.scheme, key.keyval["public"])
        return CryptoSigner(private, key)
    except (ValueError, Misfit) as error:
        raise refused(what, f"can't sign here: {error}", f"Make one of {', '.join(SCHEMES)}.") from None


def _private(data: bytes, passphrase: bytes | None, what: str) -> Any:
    locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data
    if locked and passphrase is None:
        raise refused(
            what, "is encrypted, and no passphrase was given",
            f"Set {PASSPHRASE_VARIABLE}, or name a file with --passphrase-file.",
        )  # fmt: skip
    try:
        return load_pem_private_key(data, passphrase if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        cause = "does not open with this passphrase" if locked else "is not a private key in PEM form"
        raise refused(what, cause, "Give the right passphrase, or the key from a copy.") from None
