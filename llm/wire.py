"""Each thread's own HTTP connections to providers, and what the attempt under way has seen on them.

One httpx pool shared by a hundred threads slows down with the square of its connections, so every thread keeps
its own, and the connections in it are used again by its later calls.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from litellm.llms.custom_httpx.http_handler import HTTPHandler, get_ssl_configuration

from llm.connections import Backend, Interrupted

CONNECT_MAX_SECONDS = 10.0
ANSWER_MAX_BYTES = 32 * 1024 * 1024
KEEPALIVE_SECONDS = 30.0  # below the idle timeout of the usual providers, so that no dead connection is tried


class Line(threading.local):
    """The calling thread's client. It follows no redirect: a provider's key travels to no other host."""

    def __init__(self) -> None:
        self.ends_at = self.deadline = float("inf")
        self.should_stop: Callable[[], bool] = lambda: False
        self.sent = self.interrupted = False
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.http = httpx.Client(
            verify=get_ssl_configuration(),
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none is kept: a line serves many accounts
            limits=httpx.Limits(max_keepalive_connections=4, keepalive_expiry=KEEPALIVE_SECONDS),
            event_hooks={"request": [self._send], "response": [self._receive]},
        )
        for transport in (self.http._transport, *self.http._mounts.values()):  # the latter are the proxies'
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = Backend(self)  # httpx has no door for it
        self.client = HTTPHandler(client=self.http)

    def begin(self, timeout_seconds: float, should_stop: Callable[[], bool]) -> None:
        """Forget the attempt before; everything until the next `begin` shares this many seconds.

        It ends early within `llm.connections.POLL_SECONDS` of `should_stop()` becoming true.
        """
        self.ends_at = self.deadline = time.monotonic() + timeout_seconds
        self.should_stop = should_stop
        self.sent = self.interrupted = False
        self.status, self.headers = None, {}

    def expect(self, seconds: float) -> None:
        """From here on something has to come within that many seconds; the end of the attempt stays what it is."""
        self.deadline = min(self.ends_at, time.monotonic() + seconds)

    def check(self) -> None:
        """Raise Interrupted when the attempt is to be given up."""
        if self.interrupted or self.should_stop():
            self.interrupted = True
            raise Interrupted("the task is to stop")

    def left(self) -> float:
        return max(0.001, self.deadline - time.monotonic())

    def _send(self, request: httpx.Request) -> None:
        """Set the timeouts here: some of LiteLLM's providers ignore the one they are given."""
        left = self.left()
        connect = min(left, CONNECT_MAX_SECONDS)
        request.extensions["timeout"] = {"connect": connect, "read": left, "write": left, "pool": left}

    def _receive(self, response: httpx.Response) -> None:
        self.status, self.headers = response.status_code, response.headers
        response.request.extensions["timeout"]["read"] = self.left()
        stream = response.stream
        if isinstance(stream, httpx.SyncByteStream):
            response.stream = _Bounded(stream, self)


LINE = Line()


class Shared(httpx.Client):
    """For the SDKs that LiteLLM uses for some providers and caches for all threads: each thread sends on its own."""

    def send(self, request: httpx.Request, **given: Any) -> httpx.Response:
        return LINE.http.send(request, **(given | {"follow_redirects": False}))


class _Bounded(httpx.SyncByteStream):
    """A response body that ends at the deadline, however slowly it drips, and at ANSWER_MAX_BYTES."""

    def __init__(self, stream: httpx.SyncByteStream, line: Line) -> None:
        self.stream, self.line = stream, line

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self.stream:
            size += len(chunk)
            if size > ANSWER_MAX_BYTES:
                raise httpx.DecodingError(f"the answer is over {ANSWER_MAX_BYTES} bytes")
            if time.monotonic() > self.line.deadline:
                raise httpx.ReadTimeout("the answer was still arriving at the deadline")
            yield chunk

    def close(self) -> None:
        self.stream.close()
