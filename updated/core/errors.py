"""Errors that a person reads: each names the thing, the cause and the mend.

The catalogue `CODES` is the single list of stable codes; the manual prints it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Blame(StrEnum):
    """Who can mend a fault."""

    NETWORK = "network"
    REPOSITORY = "repository"
    DEVICE = "device"
    OPERATOR = "operator"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class Code:
    """What is the same for every error of one code."""

    blame: Blame
    retry: bool
    meaning: str


CODES: Mapping[str, Code] = {
    # network
    "unreachable": Code(Blame.NETWORK, True, "the server could not be reached"),
    "http-status": Code(Blame.NETWORK, True, "the server answered with an error"),
    "not-found": Code(Blame.REPOSITORY, True, "a file of the repository is missing on the server"),
    "truncated": Code(Blame.NETWORK, True, "the connection ended before the whole file came"),
    "too-slow": Code(Blame.NETWORK, True, "the server sent less than the lowest accepted rate"),
    "too-long": Code(Blame.REPOSITORY, True, "the server sent more than the signed length"),
    "bad-redirect": Code(Blame.REPOSITORY, True, "the server redirected to a place that is not allowed"),
    "no-ranges": Code(Blame.REPOSITORY, True, "the server sends a file from its beginning only"),
    "encoded": Code(Blame.REPOSITORY, True, "the server compressed a body on the way"),
    # repository
    "metadata-expired": Code(Blame.REPOSITORY, True, "signed metadata is past its expiry date"),
    "metadata-rolled-back": Code(Blame.REPOSITORY, True, "signed metadata is older than what was trusted"),
    "metadata-invalid": Code(Blame.REPOSITORY, True, "signed metadata does not verify"),
    "no-such-target": Code(Blame.REPOSITORY, True, "the signed metadata does not list what is needed"),
    "wrong-digest": Code(Blame.REPOSITORY, True, "content differs from its signed digest"),
    "manifest-invalid": Code(Blame.REPOSITORY, True, "a signed manifest does not fit its schema"),
    "index-invalid": Code(Blame.REPOSITORY, True, "a chunk index does not fit its format"),
    "patch-invalid": Code(Blame.REPOSITORY, True, "the table of a patch does not fit its format"),
    "incompatible": Code(Blame.REPOSITORY, False, "the release is made for other machines"),
    "image-too-large": Code(Blame.REPOSITORY, False, "an image is larger than its slot"),
    "denied": Code(Blame.DEVICE, False, "the release failed on this node before"),
    "release-too-old": Code(Blame.REPOSITORY, False, "the release is below the version floor of this node"),
    # device
    "slot-missing": Code(Blame.DEVICE, False, "a partition, folder or file that a slot needs is not there"),
    "slot-in-use": Code(Blame.DEVICE, False, "the slot to be written is mounted, or something else writes to it"),
    "slot-running": Code(Blame.DEVICE, False, "it is not known which slot runs, or it is the one to be written"),
    "slot-differs": Code(Blame.DEVICE, True, "what was read back from the slot is not the signed image"),
    "disk-error": Code(Blame.DEVICE, True, "a disk or a file could not be read or written"),
    "disk-full": Code(Blame.DEVICE, True, "there is no space left for the state of the node, or for a file of a slot"),
    "state-corrupt": Code(Blame.DEVICE, True, "a state file is damaged"),
    "boot-reference": Code(Blame.DEVICE, True, "the boot reference could not be read or written"),
    "reboot-failed": Code(Blame.DEVICE, True, "the command that reboots did not work"),
    # operator
    "hook-refused": Code(Blame.OPERATOR, True, "a pre-reboot hook failed or could not be run"),
    "bad-config": Code(Blame.OPERATOR, False, "the configuration is not valid"),
    "no-root-of-trust": Code(Blame.OPERATOR, False, "the pinned root metadata is missing or damaged"),
    "not-possible-now": Code(Blame.OPERATOR, False, "the request does not fit the state of the node"),
    "unknown-channel": Code(Blame.OPERATOR, False, "the repository has no such channel"),
    "not-authorized": Code(Blame.OPERATOR, False, "the caller may not do this"),
    "daemon-not-running": Code(Blame.OPERATOR, True, "the daemon does not answer on the bus"),
    "already-running": Code(Blame.OPERATOR, True, "another process already works on this node"),
    "bad-repository": Code(Blame.OPERATOR, False, "the repository folder is not as expected"),
    "bad-key": Code(Blame.OPERATOR, False, "a signing key is missing or does not open"),
    "bad-image": Code(Blame.OPERATOR, False, "an image can't be published"),
    "bad-request": Code(Blame.OPERATOR, False, "an argument is not valid"),
    # bug
    "child-failed": Code(Blame.BUG, True, "a child process ended without a result"),
    "internal": Code(Blame.BUG, True, "an error that the program did not expect"),
}


MAX_TEXT_LENGTH = 1000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _one_line(text: str) -> str:
    """`text` as a line of bounded length: parts of it may come from a server."""
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"


class UpdatedError(Exception):
    """An error with a stable code; `str()` is "what: cause. mend".

    Each part is one line of at most `MAX_TEXT_LENGTH` characters.

    Attributes: `code` (a key of `CODES`), `what` (the thing), `cause`, `mend` (what a person can do).
    """

    def __init__(self, code: str, what: str, cause: str, mend: str) -> None:
        if code not in CODES:
            raise KeyError(code)
        what, cause, mend = _one_line(what), _one_line(cause), _one_line(mend)
        super().__init__(code, what, cause, mend)
        self.code = code
        self.what = what
        self.cause = cause
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}. {self.mend}"

    @property
    def blame(self) -> Blame:
        """Who can mend it."""
        return CODES[self.code].blame

    @property
    def retry(self) -> bool:
        """Whether doing the same again can help."""
        return CODES[self.code].retry

    def to_json(self) -> dict[str, Any]:
        """The form in the status file and between processes."""
        return {"code": self.code, "what": self.what, "cause": self.cause, "mend": self.mend}

    @classmethod
    def from_json(cls, data: Any) -> UpdatedError:
        """The error in `data`; what does not fit the form becomes an `internal` error, never an exception."""
        if isinstance(data, dict):
            fields = [data.get(key) for key in ("code", "what", "cause", "mend")]
            if all(isinstance(field, str) for field in fields) and fields[0] in CODES:
                return cls(*(str(field) for field in fields))
        return cls("internal", "an error report", f"is not in the known form: {str(data)[:200]}", "Report it.")
