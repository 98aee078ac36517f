"""What can be wrong with an address, with the head of an answer, or with a connection, as errors that people read."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from updated.core.errors import UpdatedError

MEND_NETWORK = "Check the network and the address of the repository; it is tried again by itself."


def strong_validator(headers: Mapping[str, str]) -> str | None:
    """The entity tag, when it vouches for each byte (RFC 9110, 8.8.3)."""
    tag = headers.get("ETag", "")
    return tag if len(tag) >= 2 and tag[0] == tag[-1] == '"' else None


def content_length(headers: Mapping[str, str]) -> int:
    """The length that an answer names, in bytes; 0 when it names none."""
    text = headers.get("Content-Length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def refuse_encoding(headers: Mapping[str, str], url: str) -> None:
    """Raises `UpdatedError` ("encoded") for a body that was compressed on the way."""
    content = headers.get("Content-Encoding", "identity").strip().lower()
    transfer = headers.get("Transfer-Encoding", "chunked").strip().lower()
    if content not in ("", "identity") or transfer != "chunked":
        raise UpdatedError(
            "encoded", shown(url), f"came encoded ({content}, {transfer}) though that was not asked for",
            "Switch compression off for this path on the web server.",
        )


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds for which a server asks (RFC 9110, 10.2.3); 0 when it names a date, or nothing."""
    text = headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def no_ranges(url: str, position: int, end: int) -> UpdatedError:
    """The error for a file that came from its beginning where another byte was asked for."""
    return UpdatedError(
        "no-ranges", shown(url), f"came from its beginning where bytes {position}-{end - 1} were asked for",
        "Switch ranges on (Accept-Ranges) on the web server and on the caches before it.",
    )


def truncated(url: str, reason: str) -> UpdatedError:
    """The error for a body that broke off."""
    return UpdatedError("truncated", shown(url), f"did not come whole: {reason}", MEND_NETWORK)


def too_slow(url: str, cause: str) -> UpdatedError:
    """The error for a server that sends too little."""
    return UpdatedError("too-slow", shown(url), cause, MEND_NETWORK)


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what lies below it; requests and urllib3 nest the cause in `args` and `reason`."""
    pending: list[object] = [error]
    for _ in range(20):
        if not pending:
            return
        each = pending.pop(0)
        if isinstance(each, BaseException):
            yield each
            pending += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]


def certificate_problem(error: BaseException) -> str | None:
    """What is wrong with the server's certificate, if that is what `error` says."""
    for each in causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message
    return None


def reason(error: BaseException) -> str:
    """The innermost words about `error`: system errors say it best."""
    words = str(error)
    for each in causes(error):
        if isinstance(each, OSError) and each.strerror:
            words = each.strerror
    return words[:300] or type(error).__name__


def endpoint(url: str) -> tuple[str, str]:
    """Scheme and host name of a URL of a web server. Raises `UpdatedError` ("bad-config")."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        if parts.scheme in ("http", "https") and host and parts.port != 0:
            return parts.scheme, host
    except ValueError:
        pass
    raise bad_address(url)


def bad_address(url: str) -> UpdatedError:
    """The error for an address that is not one of a repository."""
    return UpdatedError(
        "bad-config", f"the address {shown(url)[:200]!r}", "is not one of a repository",
        "Give a URL such as https://updates.example.org/repository, or an absolute path.",
    )


def shown(url: str) -> str:
    """`url` without a password in it."""
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", url)


def require_readable(path: str, what: str) -> None:
    """Raises `UpdatedError` ("bad-config") when the file `path` can't be read."""
    if not os.access(path, os.R_OK):
        raise UpdatedError(
            "bad-config", f"{what} {path}", "is missing or can't be read",
            "Install the package ca-certificates, or name a readable PEM file in the configuration.",
        )
