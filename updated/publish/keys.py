"""Private keys: Ed25519, each in a PEM file (PKCS #8, RFC 5958) of its own, encrypted when there is a passphrase."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from bootctl import durable
from updated.core.errors import UpdatedError

PASSPHRASE_VARIABLE = "RELEASECTL_PASSPHRASE"  # noqa: S105
_MAX_LENGTH = 65536
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class KeyFolder:
    """The folder of private key files, `<name>.pem`; it holds only the keys that this machine shall have."""

    def __init__(self, path: str, passphrase: bytes | None = None) -> None:
        self.path = path
        self._passphrase = passphrase

    def file(self, name: str) -> str:
        """Where the key `name` lies."""
        if _NAME.fullmatch(name) is None:
            raise ValueError(name)
        return os.path.join(self.path, f"{name}.pem")

    def refuse_existing(self, names: Iterable[str]) -> None:
        """Raises `UpdatedError` ("bad-key") when one of the keys is there: no key is ever overwritten."""
        for name in names:
            if os.path.lexists(self.file(name)):
                raise UpdatedError(
                    "bad-key", f"the key {self.file(name)}", "is there already, and keys are never overwritten",
                    "Name an empty folder, or move the old keys away if nothing needs them.",
                )  # fmt: skip

    def generate(self, name: str) -> CryptoSigner:
        """A new key, in a new file that only its owner can read. Raises `UpdatedError` ("bad-key") and OSError."""
        self.refuse_existing([name])
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        private = Ed25519PrivateKey.generate()
        encryption: KeySerializationEncryption = NoEncryption()
        if self._passphrase is not None:
            encryption = BestAvailableEncryption(self._passphrase)
        data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        durable.write_file(self.file(name), data, mode=0o600)
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))

    def signer(self, name: str, keyids: Collection[str]) -> CryptoSigner | None:
        """The signer of the key `name`, None when its file is not there.

        Raises `UpdatedError` ("bad-key") when the file does not open, or holds a key other than those of `keyids`.
        """
        path = self.file(name)
        try:
            with open(path, "rb") as file:
                data = file.read(_MAX_LENGTH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UpdatedError(
                "bad-key", f"the key {path}", error.strerror or str(error), "Run this as the owner of the key."
            ) from None
        signer = self._opened(path, data)
        if signer.public_key.keyid not in keyids:
            raise UpdatedError(
                "bad-key", f"the key {path}", "is not the one that the repository names for this role",
                "Name the folder with the keys of this repository.",
            )  # fmt: skip
        return signer

    def _opened(self, path: str, data: bytes) -> CryptoSigner:
        what = f"the key {path}"
        encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data
        if encrypted and self._passphrase is None:
            raise UpdatedError(
                "bad-key", what, "is encrypted, and no passphrase was given",
                f"Set {PASSPHRASE_VARIABLE}, or name a file with --passphrase-file.",
            )  # fmt: skip
        try:
            private = load_pem_private_key(data, self._passphrase if encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            cause = "does not open with this passphrase" if encrypted else "is not a private key in PEM form"
            raise UpdatedError("bad-key", what, cause, "Give the right passphrase, or the key from a copy.") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise UpdatedError("bad-key", what, "is not an Ed25519 key", "Use the keys that `init` made.")
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def passphrase(file: str | None) -> bytes | None:
    """The passphrase: the first line of `file`, else what the environment says; None when there is none.

    Raises `UpdatedError` ("bad-key").
    """
    if file is None:
        value = os.environb.get(PASSPHRASE_VARIABLE.encode())
        return value or None
    try:
        with open(file, "rb") as opened:
            value = opened.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise UpdatedError(
            "bad-key", f"the passphrase file {file}", error.strerror or str(error), "Name a file that can be read."
        ) from None
    if not value:
        raise UpdatedError(
            "bad-key", f"the passphrase file {file}", "has an empty first line", "Write the passphrase there."
        )
    return value
