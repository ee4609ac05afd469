"""One connection of the local model server: requests as they come in, answers at the pace they ask for."""
from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


@dataclass(frozen=True)
class Answer:
    """What goes back: status, body, headers; `hangs` keeps the connection open and says nothing.

    `drips_from` "headers" or "body" sends one byte every `drip_seconds` from there on. `pieces` come instead of the
    body, each as a chunk of its own, and then the body's `end`: "whole", "breaks" (the connection is closed in the
    middle) or "stalls" (nothing more comes). `hold` is waited for before the last piece.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    hangs: bool = False
    drips_from: str = ""
    drip_seconds: float = 0.0
    pieces: tuple[bytes, ...] = ()
    end: str = "whole"
    hold: threading.Event | None = None


class Host(Protocol):
    """The server that a connection belongs to."""

    closing: threading.Event

    def arrived(self) -> int: ...

    def left(self) -> None: ...

    def answer(self, request: Request) -> Answer: ...


def handler_of(server: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as a provider keeps them
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.connection_number = server.arrived()

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()
            server.left()

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(content) if content else None
            except ValueError:
                body = content
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body, self.connection_number)
            self.send(server.answer(request))

        do_GET = do_POST

        def send(self, answer: Answer) -> None:
            if not self.wait(answer.delay_seconds) or answer.hangs:
                self.wait(float("inf"))
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            try:
                if answer.pieces:
                    self.send_pieces(answer)
                    return
                self.send_header("Content-Length", str(len(answer.body)))
                if answer.drips_from:
                    self.drip(answer)
                    return
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:  # the client has had enough
                self.close_connection = True

        def send_pieces(self, answer: Answer) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, piece in enumerate(answer.pieces):
                if answer.hold and number == len(answer.pieces) - 1:
                    answer.hold.wait(30)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if answer.end == "whole":
                self.wfile.write(b"0\r\n\r\n")
                return
            if answer.end == "stalls":
                self.wait(float("inf"))
            self.close_connection = True

        def drip(self, answer: Answer) -> None:
            if answer.drips_from == "body":
                self.end_headers()
                slowly = answer.body
            else:
                slowly = b"".join(self._headers_buffer) + b"\r\n" + answer.body
                self._headers_buffer = []
            for byte in slowly:
                self.wfile.write(bytes([byte]))
                if not self.wait(answer.drip_seconds):
                    self.close_connection = True
                    return

        def wait(self, seconds: float) -> bool:
            """True when the time has passed, False when the client left or the server closes."""
            ends_at = time.monotonic() + seconds
            while (left := ends_at - time.monotonic()) > 0:
                if server.closing.wait(min(left, 0.05)) or self.is_left():
                    return False
            return True

        def is_left(self) -> bool:
            ready, _, _ = select.select([self.connection], [], [], 0)
            if not ready or isinstance(self.connection, ssl.SSLSocket):  # TLS cannot peek
                return bool(ready)
            with contextlib.suppress(OSError):
                return not self.connection.recv(1, socket.MSG_PEEK)
            return True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
