"""Connections whose every wait ends early: at the call's deadline, and soon after its task is to stop.

A blocked socket cannot be woken by its own thread, so none of these blocks for longer than POLL_SECONDS: connecting,
the TLS handshake, sending and receiving look up in between. Only the system's name lookup cannot be cut short; its
own timeouts bound it.
"""
from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import httpcore
from httpcore._backends.sync import SyncStream, TLSinTLSStream

POLL_SECONDS = 0.2

Value = TypeVar("Value")


class Interrupted(OSError):
    """The task is to stop."""


class Bounds(Protocol):
    """What ends the waits of the call under way. `deadline` is of `time.monotonic`."""

    deadline: float
    sent: bool

    def check(self) -> None:
        """Raise Interrupted when the call is to be given up."""


class Watched:
    """A socket as httpcore's streams use one; between two looks it blocks for POLL_SECONDS at most."""

    def __init__(self, sock: socket.socket, bounds: Bounds, timeout: float | None = None) -> None:
        self.sock, self._bounds = sock, bounds
        self.settimeout(timeout)

    def settimeout(self, seconds: float | None) -> None:
        self._ends_at = float("inf") if seconds is None else time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        return self._patiently(self.sock.recv, size)

    def send(self, data: bytes) -> int:
        self._bounds.sent = True
        return self._patiently(self.sock.send, data)

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[self.send(data) :]

    def handshake(self) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            self._patiently(self.sock.do_handshake)

    def connect(self, address: Any) -> None:
        """Connect without blocking, and look up while that takes. Raises OSError and TimeoutError."""
        self.sock.setblocking(False)
        code = self.sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(self.sock, select.POLLOUT)
            while not poller.poll(self._slice() * 1000):
                pass
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _patiently(self, act: Callable[..., Value], *given: Any) -> Value:
        """Try until it is done. TLS too goes on where its timeout stopped it, when it is given the same again."""
        while True:
            self.sock.settimeout(self._slice())
            try:
                return act(*given)
            except TimeoutError:
                continue

    def _slice(self) -> float:
        """Seconds until the next look. Raises Interrupted, and TimeoutError when there are none."""
        self._bounds.check()
        left = min(self._ends_at, self._bounds.deadline) - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, POLL_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)  # close, fileno, getsockname, getpeername


class Stream(SyncStream):
    """httpcore's own stream over a watched socket."""

    def __init__(self, watched: Watched, bounds: Bounds) -> None:
        super().__init__(watched)  # type: ignore[arg-type]
        self._watched, self._bounds = watched, bounds

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._watched.settimeout(timeout)
            if isinstance(self._watched.sock, ssl.SSLSocket):  # to a server, through a proxy that speaks TLS itself
                return TLSinTLSStream(self._watched, ssl_context, server_hostname, timeout)  # type: ignore[arg-type]
            plain = self._watched.sock
            over = ssl_context.wrap_socket(plain, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._watched = Watched(over, self._bounds, timeout)  # `plain` has given its descriptor away
            self._watched.handshake()
        except OSError as error:
            self._watched.close()
            raise _connect_error(error) from error
        return Stream(self._watched, self._bounds)


class Backend(httpcore.NetworkBackend):
    """Where httpcore's pools get their connections from."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Each address of the host in turn, each within `timeout`."""
        failure: OSError = OSError(f"{host} has no address")
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                watched = Watched(socket.socket(family, kind, protocol), self._bounds, timeout)
                try:
                    watched.connect(address)
                    watched.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for option in socket_options or ():
                        watched.sock.setsockopt(*option)
                    return Stream(watched, self._bounds)
                except OSError as error:
                    watched.close()
                    failure = error
                    self._bounds.check()
        except OSError as error:
            failure = error
        raise _connect_error(failure) from failure


def _connect_error(error: OSError) -> Exception:
    kind = httpcore.ConnectTimeout if isinstance(error, TimeoutError) else httpcore.ConnectError
    return kind(str(error))
