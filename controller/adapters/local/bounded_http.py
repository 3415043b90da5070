"""HTTP whose tries end: one deadline and one number of bytes for connecting, redirections, headers and body together.

The deadlines of the library hold between two pieces of an answer, so that a server which sends one byte now and then
holds its caller for ever; and it keeps whatever it is sent. Here every read from the socket is counted and gets no more
time than is left, and the body is counted again as it is unpacked.
"""

import http.client
import io
import socket
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection

_CHUNK_BYTES = 64 * 2**10
# Lists and objects in one answer: parsed, each takes a hundred bytes whatever is in it.
_MOST_BRACKETS = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one try may take."""

    # To connect and agree on encryption, and between two pieces of an answer.
    connect_s: float = 5.0
    read_s: float = 15.0
    # Of everything together; below the patience of those who ask, so that they hear the reason.
    total_s: float = 20.0
    # As sent, and as unpacked.
    most_bytes: int = 8 * 2**20


class TooLarge(requests.RequestException):
    """The answer has more bytes than a try may take."""


class Budget:
    """What is left of one try."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ends = time.monotonic() + limits.total_s
        self._left_bytes = limits.most_bytes

    def left_s(self) -> float:
        """Return how long the next step may take. Raises TimeoutError when nothing is left."""
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"not whole after {self.limits.total_s:g} s")
        return left_s

    def spend(self, count: int) -> None:
        """Count what has come from the socket. Raises TooLarge."""
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise TooLarge(f"more than {self.limits.most_bytes} bytes")


class BoundedAdapter(HTTPAdapter):
    """Sends requests of one try; an answer is read whole, and within its budget, before it is returned."""

    def __init__(self, limits: Limits) -> None:
        self._budget = Budget(limits)

        # The libraries take classes and no arguments.
        class _OfThisTry(_Response):
            budget = self._budget

        class _Plain(HTTPConnection):
            response_class = _OfThisTry

        class _Secure(HTTPSConnection):
            response_class = _OfThisTry

        class _PlainPool(HTTPConnectionPool):
            ConnectionCls = _Plain

        class _SecurePool(HTTPSConnectionPool):
            ConnectionCls = _Secure

        self._pools = {"http": _PlainPool, "https": _SecurePool}
        # Errors are to be counted by those who ask, and retries would hide them.
        super().__init__(max_retries=Retry(0))

    def init_poolmanager(self, *positional: Any, **named: Any) -> None:
        """Connect directly."""
        super().init_poolmanager(*positional, **named)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *positional: Any, **named: Any) -> Any:
        """Connect through a proxy."""
        manager = super().proxy_manager_for(*positional, **named)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def send(self, request: requests.PreparedRequest, *positional: Any, **named: Any) -> requests.Response:
        """Send the request and read its answer. Raises TooLarge, and requests' own errors."""
        limits = self._budget.limits
        try:
            left_s = self._budget.left_s()
            timeouts = (min(limits.connect_s, left_s), min(limits.read_s, left_s))
            response = super().send(request, *positional, **{**named, "stream": True, "timeout": timeouts})
            try:
                response._content = self._body(response)
            except BaseException:
                response.close()
                raise
        except TimeoutError as error:
            raise requests.Timeout(error, request=request) from error
        return response

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            body += chunk
            # Also what is unpacked from little takes time.
            self._budget.left_s()
            if len(body) > self._budget.limits.most_bytes:
                raise TooLarge(f"more than {self._budget.limits.most_bytes} bytes")
        if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
            raise TooLarge(f"more than {_MOST_BRACKETS} lists and objects")
        return bytes(body)


class _Response(http.client.HTTPResponse):
    """An answer that is read from a socket within a budget."""

    budget: ClassVar[Budget]

    def __init__(self, sock: socket.socket, *positional: Any, **named: Any) -> None:
        super().__init__(sock, *positional, **named)
        # What is made for a socket always has one.
        whole: Any = self.fp
        self.fp = io.BufferedReader(_Counted(whole.detach(), sock, self.budget))


class _Counted(io.RawIOBase):
    """A socket's bytes; each read takes what is left of the budget."""

    def __init__(self, raw: Any, sock: socket.socket, budget: Budget) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._budget = budget

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once, for as long as one read may take and the budget lasts."""
        self._sock.settimeout(min(self._budget.limits.read_s, self._budget.left_s()))
        count: int | None = self._raw.readinto(buffer)
        self._budget.spend(count or 0)
        return count

    def close(self) -> None:
        """Close the socket's end too."""
        self._raw.close()
        super().close()


def within(
    error: BaseException | None, kind: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    """Return the error of this kind that led to another one; None when there is none."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def innermost(error: BaseException) -> BaseException:
    """Return what really went wrong, without the pools and retries around it."""
    while True:
        within = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(within, BaseException):
            return error.__cause__ if isinstance(error.__cause__, OSError) else error
        error = within
