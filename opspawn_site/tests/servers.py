"""The web process for tests: uvicorn as `up` runs it, in this process or as a process of its own."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import uvicorn

SETTINGS = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_config": None}


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The site on a free port, in threads of this process; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config("opspawn_site.asgi:application", **SETTINGS))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            until_up(address)
            yield address
        finally:
            server.should_exit = True
            thread.join(20)


@contextlib.contextmanager
def served_by_process(**environment: str) -> Iterator[str]:
    """The site as a process of its own with another environment; its address."""
    with web_process(**environment) as (_, address):
        yield address


@contextlib.contextmanager
def web_process(
    listener: socket.socket | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """As `served_by_process`, and the process, which may be ended or killed; on that socket, which stays open."""
    own = listener or socket.create_server(("127.0.0.1", 0))
    descriptor = own.fileno()
    command = [sys.executable, "-m", "opspawn_site.fleet.web", str(descriptor)]
    process = subprocess.Popen(command, env={**os.environ, **environment}, pass_fds=(descriptor,))
    address = f"http://127.0.0.1:{own.getsockname()[1]}"
    if listener is None:
        own.close()
    try:
        until_up(address)
        yield process, address
    finally:
        process.terminate()
        process.wait(20)


class Cable:
    """A TCP proxy to a server that can be pulled out and put in again, on the same port."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    def plug_in(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def pull(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends = []

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def until_up(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/healthz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{address} did not come up")
