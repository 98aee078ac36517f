"""HTTP connections whose server must send the whole head of an answer within the read timeout.

The timeout of a socket begins anew with each byte, and http.client skips any number of interim answers: without a
bound on the whole head, a server could hold a connection for as long as it likes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPException
from typing import Any

import requests.adapters
import urllib3.connection
import urllib3.connectionpool


class _Punctual:
    def getresponse(self) -> Any:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(OSError, AttributeError):
                self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

        timer = threading.Timer(self.timeout, expire)  # type: ignore[attr-defined]
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        except (OSError, HTTPException):
            if expired.is_set():
                raise TimeoutError("timed out") from None
            raise
        finally:
            timer.cancel()
        if expired.is_set():  # http.client takes a head that breaks off for a whole one
            raise TimeoutError("timed out")
        return response


class _Connection(_Punctual, urllib3.connection.HTTPConnection):
    pass


class _TlsConnection(_Punctual, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class PunctualAdapter(requests.adapters.HTTPAdapter):
    """The adapter of requests with such connections, straight and by a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Makes the pools of connections to servers."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of connections to a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
