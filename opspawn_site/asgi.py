"""The web process: requests run in Django's WSGI handler on threads; who waits or reads a stream needs none.

Every view and most middleware are synchronous. Django's ASGI handler starts a thread for each such request and
keeps it while an asynchronous view waits; docs/decisions/0003-one-port-one-wsgi-bridge.md has the figures.
"""
from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
handler = get_wsgi_application()

from django.conf import settings  # noqa: E402
from django.urls import get_resolver  # noqa: E402

from opspawn_site.postgresql.base import Connection  # noqa: E402
from opspawn_site.rest.request_id import ARRIVED, TOO_LARGE  # noqa: E402
from tasks.watch import HOLD, STREAM  # noqa: E402

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Connection.answer_seconds = 4.0  # a caller hears within 5 s that PostgreSQL is away, also when it is only frozen
CLOSING = asyncio.Event()  # set when the server is told to stop
# More threads than database connections (20): while PostgreSQL is away each request takes its 3 s of patience.
THREADS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="request")
STALLED_SECONDS = 60.0  # a reader that takes nothing for so long is let go; it may come again
LAST_WORD_SECONDS = 1.0  # for the end of a stream when the server stops


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Disconnected(Exception):
    """The client went away."""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        with contextlib.suppress(Disconnected):  # nobody is there to be told
            await answer_to(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _ = get_resolver().url_patterns  # the first request does not pay for importing the views
            end_holds_with_the_server()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def end_holds_with_the_server() -> None:
    """When the server is told to stop, who waits is answered at once instead of being cut off.

    The server has set its own signal handlers by now; they run after this.
    """
    global CLOSING
    CLOSING, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(before := signal.getsignal(number)):
            signal.signal(number, partial(close, before, loop, CLOSING))


def close(before: Callable[..., Any], loop: asyncio.AbstractEventLoop, closing: asyncio.Event, *given: Any) -> None:
    loop.call_soon_threadsafe(closing.set)
    before(*given)


async def answer_to(scope: Scope, receive: Receive, send: Send) -> None:
    environ = environ_of(scope)
    body = await body_of(scope, receive, settings.REQUEST_MAX_BYTES)
    environ[ARRIVED] = time.perf_counter()
    environ[STREAM] = None  # this server can stream
    if body is None:
        environ[TOO_LARGE] = True
    answer = await run(environ, body or b"")
    if environ[STREAM] and answer.status == 200:  # no middleware made an error of it
        await stream(answer, environ[STREAM], receive, send)
        return
    if environ.get(HOLD):
        await hold(environ[HOLD], receive)
        again = environ_of(scope) | {ARRIVED: environ[ARRIVED], HOLD: None}  # not a second time
        answer = await run(again, body or b"")
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


async def hold(wait: Callable[[], Awaitable[None]], receive: Receive) -> None:
    """Await what the view waits for, or the end of the server; raise Disconnected when the client goes first."""
    waiting = asyncio.ensure_future(wait())
    leaving = asyncio.ensure_future(receive())  # after the body, the next message is the disconnect
    closing = asyncio.ensure_future(CLOSING.wait())
    try:
        await asyncio.wait({waiting, leaving, closing}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not waiting.done():
            raise Disconnected
        if waiting.done():
            waiting.result()  # a defect in it is one of the request
    finally:
        for future in (waiting, leaving, closing):
            future.cancel()
        await asyncio.gather(waiting, leaving, closing, return_exceptions=True)  # what they hold is free from here on


async def stream(answer: Answer, chunks: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send the chunks as they come, until there are no more, the client leaves or the server stops."""
    headers = [header for header in answer.headers if header[0] != b"content-length"]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await hold(partial(send_all, chunks, send), receive)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORD_SECONDS if CLOSING.is_set() else STALLED_SECONDS):
            await send({"type": "http.response.body", "body": b""})


async def send_all(chunks: AsyncGenerator[bytes], send: Send) -> None:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                raise Disconnected from None


async def body_of(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is known to be larger than the limit, chunked or not."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


async def run(environ: dict[str, Any], body: bytes) -> Answer:
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    return await asyncio.get_running_loop().run_in_executor(THREADS, call, environ)


def call(environ: dict[str, Any]) -> Answer:
    """One request through Django, its answer collected: every answer is small or a static file."""
    started: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        started.update(status=int(status[:3]), headers=headers)

    response = handler(environ, start_response)
    try:
        body = b"".join(response)
    finally:
        response.close()  # ends the request: its connection goes back to the pool
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in started["headers"]]
    return Answer(started["status"], headers, body)


def environ_of(scope: Scope) -> dict[str, Any]:
    """PEP 3333's environ of an ASGI scope. Header names with `_` are dropped: they would pass for those with `-`."""
    server = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1] or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper(), raw_value.decode("latin-1")
        if "_" in name:
            continue
        key = "CONTENT_TYPE" if name == "CONTENT-TYPE" else "HTTP_" + name.replace("-", "_")
        joint = "; " if name == "COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return environ
