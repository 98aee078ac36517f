"""The key folder: a record for each key that is known here, and the private keys that are files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from securesystemslib.signer import Signer  # type: ignore[attr-defined]

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.publish import keyfile, keyservice
from updated.publish.keyfile import PASSPHRASE_VARIABLE
from updated.publish.keyrecord import MAX_RECORD_LENGTH, KeyRecord, is_key_name, refused

_FILE = "file"
_LEAST_PREFIX = 8
_KEYID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Found:
    """The signers of the keys that can sign here, and of each other key why it can't."""

    signers: tuple[Signer, ...]
    absent: tuple[str, ...]


class KeyFolder:
    """The folder of key records, `<name>.json`, and private keys, `<name>.pem`.

    It holds only the private keys that this machine shall have; records without one make the keys of others known.
    """

    def __init__(self, path: str, passphrase: bytes | None = None) -> None:
        self.path = path
        self._passphrase = passphrase
        self._opened: dict[str, Signer] = {}

    def file(self, name: str, ending: str = "pem") -> str:
        """Where the key `name` lies, or with the ending `json` its record. Raises `UpdatedError` ("bad-key")."""
        if not is_key_name(name):
            raise refused(
                f"the key {name!r}", "has no name for a key",
                "Begin with a lower-case letter, go on with letters, digits, hyphens and underscores, at most 40.",
            )  # fmt: skip
        return os.path.join(self.path, f"{name}.{ending}")

    def refuse_existing(self, names: Iterable[str]) -> None:
        """Raises `UpdatedError` ("bad-key") when one of the keys is there: no key is ever overwritten."""
        for path in (self.file(name, ending) for name in names for ending in ("json", "pem")):
            if os.path.lexists(path):
                bare = path.endswith(".pem")
                raise refused(
                    f"the key {path}",
                    "is there already" + (" without a record" if bare else "") + ", and keys are never overwritten",
                    "Choose another name, or move the old key away if nothing needs it."
                    + (" `releasectl key import NAME --file FILE` makes its record." if bare else ""),
                )  # fmt: skip

    def generate(self, name: str, scheme: str = "ed25519") -> KeyRecord:
        """A new key, in a new file that only its owner can read. Raises `UpdatedError` ("bad-key") and OSError."""
        self.refuse_existing([name])
        data, key = keyfile.generate(scheme, self._passphrase)
        return self._keep(KeyRecord(name, key, f"{_FILE}:{name}.pem"), data)

    def resumed(self, name: str) -> KeyRecord | None:
        """The key that an interrupted run made under this name, with its record; None when there is none.

        Raises as `generate`.
        """
        path = self.file(name)
        for cut in glob.glob(f".{name}.*.tmp", root_dir=self.path):
            os.unlink(os.path.join(self.path, cut))
        if os.path.lexists(self.file(name, "json")):
            return self.record(name)
        if not os.path.lexists(path):
            return None
        what = f"the key {path}"
        key = keyfile.opened(_read(path, what), self._passphrase, what).public_key
        return self._keep(KeyRecord(name, key, f"{_FILE}:{name}.pem"))

    def import_file(self, name: str, file: str) -> KeyRecord:
        """Copies the private key in the PEM file `file`, encrypted when there is a passphrase. Raises as `generate`."""
        self.refuse_existing([name])
        what = f"the key {file}"
        data = _read(file, what)
        key = keyfile.opened(data, self._passphrase, what).public_key
        data = keyfile.encrypted(data, self._passphrase, self._passphrase, what)
        return self._keep(KeyRecord(name, key, f"{_FILE}:{name}.pem"), data)

    def import_uri(self, name: str, uri: str) -> KeyRecord:
        """Makes the key of a token or a key service known. Raises as `generate`."""
        self.refuse_existing([name])
        whole, key = keyservice.imported(uri, name)
        return self._keep(KeyRecord(name, key, whole))

    def import_record(self, name: str, file: str) -> KeyRecord:
        """Makes the key of somebody else known, from the record that they sent. Raises as `generate`."""
        self.refuse_existing([name])
        what = f"the key record {file}"
        return self._keep(KeyRecord(name, KeyRecord.parse(_read(file, what), what).key))

    def records(self) -> dict[str, KeyRecord]:
        """All records by name; none when there is no such folder. Raises `UpdatedError` ("bad-key")."""
        try:
            names = sorted(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise refused(f"the key folder {self.path}", error.strerror or str(error), "Name one of yours.") from None
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return {stem: self.record(stem) for stem in stems if is_key_name(stem)}

    def record(self, name: str) -> KeyRecord:
        """The record of the key `name`. Raises `UpdatedError` ("bad-key")."""
        path = self.file(name, "json")
        what = f"the key record {path}"
        record = KeyRecord.parse(_read(path, what), what)
        if record.name != name:
            raise refused(what, f"says that it is {record.name}", "Give the file its name back.")
        return record

    def names(self) -> dict[str, str]:
        """The name of each key that is known here, by key id."""
        return {record.keyid: name for name, record in self.records().items()}

    def keyid(self, text: str, among: Collection[str]) -> str:
        """The key id that `text` is, or begins (one of `among`), or that belongs to the key of this name.

        Raises `UpdatedError` ("bad-key").
        """
        if is_key_name(text) and os.path.lexists(self.file(text, "json")):
            return self.record(text).keyid
        if _KEYID.fullmatch(text):
            return text
        found = [keyid for keyid in among if keyid.startswith(text)] if len(text) >= _LEAST_PREFIX else []
        if len(found) != 1:
            raise refused(
                f"the key {text}", f"is neither in {self.path} nor a key of this role", "Look at `releasectl key list`."
            )
        return found[0]

    def signers(self, keyids: Iterable[str]) -> Found:
        """The signers of the keys `keyids` that can sign here.

        Raises `UpdatedError` ("bad-key") for a key that is here and does not open, or is not what its record says.
        """
        known = {record.keyid: record for record in self.records().values()}
        signers: list[Signer] = []
        absent: list[str] = []
        for keyid in dict.fromkeys(keyids):
            record = known.get(keyid)
            if record is None:
                there = "" if os.path.isdir(self.path) else ", which is not there"
                absent.append(f"{keyid[:16]} (no record of it in {self.path}{there})")
            elif (cause := self._missing(record)) is not None:
                absent.append(f"{record.name} ({cause})")
            else:
                signers.append(self._signer(record))
        return Found(tuple(signers), tuple(absent))

    def holds(self, record: KeyRecord) -> bool:
        """Whether the key can sign here, as far as that is known without asking for a secret."""
        return self._missing(record) is None

    def _missing(self, record: KeyRecord) -> str | None:
        if record.private is None:
            return "its private key is somebody else's"
        if keyservice.scheme_of(record.private) == _FILE:
            path = self._pem(record)
            return None if os.path.lexists(path) else f"{path} is not there"
        return keyservice.fault(record) if record.keyid not in self._opened else None

    def _signer(self, record: KeyRecord) -> Signer:
        if record.keyid not in self._opened:
            self._opened[record.keyid] = self._open(record)
        return self._opened[record.keyid]

    def _open(self, record: KeyRecord) -> Signer:
        if keyservice.scheme_of(record.private or "") != _FILE:
            return keyservice.opened(record)
        path = self._pem(record)
        what = f"the key {path}"
        signer = keyfile.opened(_read(path, what), self._passphrase, what)
        if signer.public_key != record.key:
            raise refused(what, "is not the one that its record is about", "Put the right file back from a copy.")
        return signer

    def _pem(self, record: KeyRecord) -> str:
        name = (record.private or "").partition(":")[2].removesuffix(".pem")
        return self.file(name)

    def _keep(self, record: KeyRecord, private: bytes | None = None) -> KeyRecord:
        same = [name for name, other in self.records().items() if other.keyid == record.keyid]
        if same:
            raise refused(f"the key {record.name}", f"is there already, as {same[0]}", "Use it under that name.")
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if private is not None:
            durable.write_file(self.file(record.name), private, mode=0o600)
        durable.write_file(self.file(record.name, "json"), record.format())
        return record


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_RECORD_LENGTH + 1)
    except OSError as error:
        raise refused(what, error.strerror or str(error), "Run this where the key is, as its owner.") from None
    if len(data) > MAX_RECORD_LENGTH:
        raise refused(what, f"has more than {MAX_RECORD_LENGTH} bytes", "Name the file of a key.")
    return data


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
