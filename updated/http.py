"""A repository on a web server, over HTTP/1.1 (RFC 9110): bounded lengths, a lowest rate, resumption, no surprises.

What is read here is verified elsewhere; this module only sees to it that a bad server or network costs a bounded
amount of memory and time, and that bytes are never joined at the wrong place.
"""

from __future__ import annotations

import importlib.metadata
import random as chance
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import quote, urljoin

import requests
import urllib3.exceptions

from updated.core.errors import UpdatedError
from updated.directory import DirectorySource, checked_name, folder_of, too_long
from updated.http_faults import (
    MEND_NETWORK,
    bad_address,
    certificate_problem,
    content_length,
    endpoint,
    no_ranges,
    reason,
    refuse_encoding,
    require_readable,
    retry_after,
    shown,
    strong_validator,
    too_slow,
    truncated,
)
from updated.ports import Source
from updated.punctual import PunctualAdapter
from updated.throttle import Throttle, TooSlow

DEFAULT_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MAX_REDIRECTS = 3
MAX_PAUSE = 30.0
_PIECE = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:[/?][!-~]*)?")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)", re.ASCII)
_MEND_SERVER = "Look at the log of the web server; it is tried again by itself."


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to talk to the server. Times are in seconds, `lowest_rate` in bytes per second over `window_seconds`.

    `bandwidth_limit`: in bytes per second, 0 for none; `bandwidth_changes`: from when on which other one counts.
    `connections`: so many are kept for further requests; it is how many threads use the source at once. `retries`: how
    often in sequence an attempt may bring nothing worth mentioning; the pauses between double up to `longest_pause`,
    and only a server that asks for it gets `MAX_PAUSE`. `redirect_hosts`: hosts to which a server on https may redirect
    besides itself. `client_certificate`: a PEM file with certificate and key.
    """

    connect_timeout: float = 10
    read_timeout: float = 30
    lowest_rate: int = 1024
    window_seconds: float = 30
    bandwidth_limit: int = 0
    bandwidth_changes: tuple[tuple[int, int], ...] = ()
    connections: int = 4
    retries: int = 3
    longest_pause: float = MAX_PAUSE
    proxy: str | None = None
    ca_bundle: str | None = None
    client_certificate: str | None = None
    redirect_hosts: tuple[str, ...] = ()


def _always(name: str) -> bool:
    return True


def open_source(
    url: str, settings: HttpSettings, throttle: Throttle | None = None, may_retry: Callable[[str], bool] = _always
) -> Source:
    """The source for `http(s)://...`, `file:///directory`, or an absolute path; the rest as for `HttpSource`.

    Raises `UpdatedError` ("bad-config").
    """
    folder = folder_of(url)
    if folder is not None:
        return DirectorySource(folder)
    return HttpSource(url, settings, throttle=throttle, may_retry=may_retry)


class _MayPass(Exception):
    """A fault that may pass by itself, so that another attempt makes sense, `after` seconds if the server said so."""

    def __init__(self, error: UpdatedError, after: float = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: else the library reads the whole body of a redirect, however long, even if it is to follow none."""
        return None


class HttpSource:
    """Implements `updated.ports.Source` over the files below `base_url`; usable from several threads.

    `throttle` is shared with the other sources of the process; None for one that is the source's own. `may_retry` is
    asked, with the name of the file, before an attempt that failed is repeated. `quoted`: names hold escapes such as
    `%2F` already, as the specification of TUF has it; without it, a name is that of a file, to the letter.

    Raises `UpdatedError` ("bad-config") when `base_url` or a file that `settings` name can't be used.
    """

    def __init__(
        self,
        base_url: str,
        settings: HttpSettings = HttpSettings(),
        *,
        throttle: Throttle | None = None,
        may_retry: Callable[[str], bool] = _always,
        quoted: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._scheme, self._host = endpoint(self._base)
        if "?" in base_url or "#" in base_url:
            raise bad_address(base_url)
        self._settings = settings
        self._throttle = throttle or Throttle(
            settings.bandwidth_limit, settings.lowest_rate, settings.window_seconds,
            changes=settings.bandwidth_changes, sleep=sleep, monotonic=monotonic,
        )
        self._may_retry = may_retry
        self._safe = "/%" if quoted else "/"
        self._sleep = sleep
        self._random = random
        self._session = _Session()
        # Without this, requests takes proxies, certificates and passwords from the environment and ~/.netrc.
        self._session.trust_env = False
        # A cookie would tell a node from others.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({
            "User-Agent": f"updated/{importlib.metadata.version('updated')}",
            "Accept-Encoding": "identity",
        })
        for prefix in ("http://", "https://"):
            self._session.mount(prefix, PunctualAdapter(pool_maxsize=settings.connections))
        self._session.verify = settings.ca_bundle or DEFAULT_CA_BUNDLE
        if self._scheme == "https":
            require_readable(self._session.verify, "the CA bundle")
        if settings.client_certificate is not None:
            require_readable(settings.client_certificate, "the client certificate")
        if settings.proxy is not None:
            self._session.proxies = {"http": settings.proxy, "https": settings.proxy}

    def close(self) -> None:
        """Closes the connections that are kept for later requests."""
        self._session.close()

    def read(self, name: str, most: int) -> bytes:
        """See `Source.read`."""
        url = self._url(name)
        failures = 0
        while True:
            try:
                return self._read_once(url, most)
            except _MayPass as fault:
                failures = self._pause(name, failures, fault)

    def stream(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """See `Source.stream`. Goes on by itself, at the byte where it stopped, when the connection breaks.

        From a server without ranges that costs all bytes before once more. That is done where bytes came already; as
        the first answer to a `start` above 0 it is refused ("no-ranges").
        """
        url, settings = self._url(name), self._settings
        position, end, failures = start, start + length, 0
        validator: str | None = None
        answered = False
        while position < end:
            begun = position
            headers = {"Range": f"bytes={position}-{end - 1}"}
            if validator is not None:
                headers["If-Range"] = validator
            try:
                with self._response(url, headers) as response:
                    validator = strong_validator(response.headers) or validator
                    skip = _bytes_before(response, url, position, end)
                    if skip and not answered:
                        raise no_ranges(url, position, end)
                    answered = True
                    for piece in self._pieces(response, url):
                        fresh = piece[skip:][: end - position]
                        skip = max(0, skip - len(piece))
                        if fresh:
                            position += len(fresh)
                            yield fresh
                        if position == end:
                            return
                raise _MayPass(truncated(url, f"it ended after {position} of {end} bytes"))
            except _MayPass as fault:
                # Less than its share of the lowest rate would have brought is no progress: a server that drops each
                # connection after a few bytes could hold us for ever otherwise.
                if position - begun >= max(1, settings.lowest_rate * settings.window_seconds / settings.connections):
                    failures = 0
                failures = self._pause(name, failures, fault)

    def blame(self, name: str, position: int = 0) -> bool:
        """See `Source.blame`: there is only this server."""
        return False

    def _read_once(self, url: str, most: int) -> bytes:
        with self._response(url, {}) as response:
            if response.status_code != 200:
                raise _status_error(response, url)
            data = bytearray()
            if content_length(response.headers) > most:
                raise too_long(url, most)
            for piece in self._pieces(response, url):
                data += piece
                if len(data) > most:
                    raise too_long(url, most)
            return bytes(data)

    def _pause(self, name: str, failures: int, fault: _MayPass) -> int:
        if failures >= self._settings.retries or not self._may_retry(name):
            raise fault.error from None
        own = min(self._settings.longest_pause, 2.0**failures) * (0.5 + self._random() / 2)
        # On top of what the server asks for, so that nodes to which it said the same don't come back together.
        self._sleep(min(MAX_PAUSE, fault.after + own))
        return failures + 1

    def _url(self, name: str) -> str:
        return self._base + quote(checked_name(name), safe=self._safe)

    def _response(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """The answer with status 200 or 206, after redirects; its body is not read yet."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, headers)
            try:
                if response.status_code in _REDIRECTS:
                    url = self._redirected(url, response)
                    response.close()
                    continue
                if response.status_code not in (200, 206):
                    raise _status_error(response, url)
                refuse_encoding(response.headers, url)
            except BaseException:
                response.close()
                raise
            return response
        raise UpdatedError(
            "bad-redirect", shown(url), f"comes after more than {MAX_REDIRECTS} redirects",
            "Mend the redirects on the web server, or configure the final address.",
        )

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        settings = self._settings
        # The certificate says who this node is, and only the configured server may know.
        certificate = settings.client_certificate if endpoint(url) == (self._scheme, self._host) else None
        try:
            return self._session.get(
                url,
                headers=dict(headers),
                stream=True,
                allow_redirects=False,
                cert=certificate,
                timeout=(settings.connect_timeout, settings.read_timeout),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _connection_error(url, error) from None

    def _redirected(self, url: str, response: requests.Response) -> str:
        target = response.headers.get("Location", "")
        try:
            target = urljoin(url, target)
            scheme, host = endpoint(target)
        except (ValueError, UpdatedError):
            scheme, host = "", ""
        if _PLAIN_URL.fullmatch(target) is None:
            # Parsers disagree about which host such an address names.
            scheme = host = ""
        if self._scheme == "https":
            allowed = scheme == "https" and host in (self._host, *self._settings.redirect_hosts)
        else:
            allowed = scheme in ("http", "https") and host == self._host
        if not allowed:
            raise UpdatedError(
                "bad-redirect", shown(url), f"redirects to {shown(target)[:200]}, which is not allowed",
                "Configure the final address, or name the host among those to which https may redirect.",
            )
        return target

    def _pieces(self, response: requests.Response, url: str) -> Iterator[bytes]:
        """The body of `response` as it comes. Raises `_MayPass` when it breaks off, stalls or drips."""
        bandwidth, meter = self._throttle.bandwidth, self._throttle.floor.meter()
        while True:
            # Only the time spent waiting for bytes counts, not what the caller or the limit does between.
            with meter.waiting():
                piece = self._piece(response, url, bandwidth.piece(_PIECE))
            if not piece:
                return
            try:
                meter.received(len(piece))
            except TooSlow as slow:
                raise _MayPass(too_slow(url, str(slow))) from None
            bandwidth.spend(len(piece))
            yield piece

    def _piece(self, response: requests.Response, url: str, most: int) -> bytes:
        try:
            # read() would go on until all that it was asked for is there, however slowly that comes.
            piece: bytes = response.raw.read1(most, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError:
            raise _MayPass(too_slow(url, f"sent nothing for {self._settings.read_timeout:.0f} s")) from None
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise _MayPass(truncated(url, reason(error))) from None
        return piece


def _bytes_before(response: requests.Response, url: str, position: int, end: int) -> int:
    """How many bytes of the body of `response` come before `position`."""
    if response.status_code == 200:
        return position
    given = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(given)
    if match is None or int(match[1]) != position or not position <= int(match[2]) < end:
        raise UpdatedError(
            "http-status", shown(url),
            f"answered with the range {given[:80]!r} where bytes {position}-{end - 1} were asked for",
            "Mend the web server or the cache before it.",
        )
    return 0


def _status_error(response: requests.Response, url: str) -> Exception:
    status = response.status_code
    if status in (403, 404):
        return UpdatedError(
            "not-found", shown(url), f"is not there (HTTP status {status})",
            "Check the address of the repository; the publisher must see to it that it is complete.",
        )
    if status == 416 and "Range" in response.request.headers:
        return UpdatedError(
            "truncated", shown(url), "is shorter on the server than it is signed to be",
            "If it stays so, the mirror is damaged: the publisher must mend it.",
        )
    error = UpdatedError("http-status", shown(url), f"was answered with HTTP status {status}", _MEND_SERVER)
    if status == 429 or status >= 500:
        return _MayPass(error, retry_after(response.headers) if status in (429, 503) else 0)
    return error


def _connection_error(url: str, error: BaseException) -> Exception:
    problem = certificate_problem(error)
    if problem is not None:
        return UpdatedError(
            "unreachable", shown(url), f"the server's certificate is not accepted: {problem}",
            "Check the server's certificate, the configured CA bundle and the clock.",
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return _MayPass(too_slow(url, "sent no answer in time"))
    return _MayPass(UpdatedError("unreachable", shown(url), f"no answer: {reason(error)}", MEND_NETWORK))
