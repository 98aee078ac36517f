"""Key records: what everybody may know about a key, and where its private part is.

A record is a JSON file, `<name>.json`; its format is in the manual. The key itself is in the form that TUF metadata
has, with the key id that TUF gives it: the SHA-256 of that form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]

from updated.core.document import Misfit, dump, load_object, parsed
from updated.core.errors import UpdatedError

SCHEMA: Final = 1
MAX_RECORD_LENGTH: Final = 65536
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_RSA_SCHEMES: Final = tuple(
    f"{padding}-sha{length}" for padding in ("rsassa-pss", "rsa-pkcs1v15") for length in (256, 384, 512)
)
_LEAST_RSA_BITS: Final = 2048
_MEND: Final = "Get it again from the one who made it."


def is_key_name(text: str) -> bool:
    """Whether `text` can name a key: `[a-z][a-z0-9_-]*`, at most 40 characters."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. `private` says where its private part is, as a URI; None in a record that only makes the key known."""

    name: str
    key: SSlibKey
    private: str | None = None

    @property
    def keyid(self) -> str:
        """The identifier of the key in metadata."""
        keyid: str = self.key.keyid
        return keyid

    @property
    def public(self) -> KeyRecord:
        """The record that others may have."""
        return replace(self, private=None)

    @classmethod
    def parse(cls, data: bytes, what: str) -> KeyRecord:
        """The record in `data`, which is called `what` in messages. Raises `UpdatedError` ("bad-key")."""
        document = load_object(data, what=what, code="bad-key", mend=_MEND)

        def read() -> KeyRecord:
            if document.number("schema") != SCHEMA:
                raise Misfit(f"schema is not {SCHEMA}")
            name, keyid = document.line("name", most=40), document.digest("keyid")
            if not is_key_name(name):
                raise Misfit("name is not the name of a key")
            part = document.object("key")
            value = part.object("keyval")
            key = known_key(part.line("keytype"), part.line("scheme"), value.text("public", most=16384))
            if key.keyid != keyid:
                raise Misfit("keyid is not that of the key")
            private = document.line("private") if document.has("private") else None
            for each in (value, part, document):
                each.done()
            return cls(name, key, private)

        return parsed(read, what=what, code="bad-key", mend=_MEND)

    def format(self) -> bytes:
        """The record as bytes; `parse` reads them back."""
        document: dict[str, Any] = {
            "schema": SCHEMA, "name": self.name, "keyid": self.keyid, "key": self.key.to_dict(),
        }  # fmt: skip
        if self.private is not None:
            document["private"] = self.private
        return dump(document)


def known_key(keytype: str, scheme: str, public: str) -> SSlibKey:
    """The key, if nodes can verify its signatures and it has its only form, and so its only key id.

    Raises `Misfit`: a key in another form would count twice towards a threshold.
    """
    try:
        crypto = _crypto(keytype, public)
        usual = SSlibKey.from_crypto(crypto)
        key = SSlibKey.from_crypto(crypto, scheme=scheme)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Misfit(f"holds no key of the type {keytype!r} that is known here") from None
    if (key.keytype, key.keyval) != (keytype, {"public": public}):
        raise Misfit("holds a key in another form than the usual one")
    if scheme not in (_RSA_SCHEMES if isinstance(crypto, RSAPublicKey) else (usual.scheme,)):
        raise Misfit(f"has the scheme {scheme!r}, which is not one for its key")
    if isinstance(crypto, RSAPublicKey) and crypto.key_size < _LEAST_RSA_BITS:
        raise Misfit(f"is an RSA key of {crypto.key_size} bits, and at least {_LEAST_RSA_BITS} are needed")
    return key


def _crypto(keytype: str, public: str) -> PublicKeyTypes:
    if keytype == "ed25519":
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return load_pem_public_key(public.encode())


def require_known(key: Key) -> None:
    """Raises `UpdatedError` ("bad-key") for a key of metadata that `known_key` refuses, or with another key id."""
    what = f"the key {key.keyid[:16]}"

    def read() -> None:
        if known_key(key.keytype, key.scheme, str(key.keyval.get("public"))) != key:
            raise Misfit("has another key id than its own, or more than a key has")

    parsed(read, what=what, code="bad-key", mend="Leave it out, and make a new one with `releasectl key new`.")


def refused(what: str, cause: str, mend: str) -> UpdatedError:
    """The error for a key that can't be used."""
    return UpdatedError("bad-key", what, cause, mend)
