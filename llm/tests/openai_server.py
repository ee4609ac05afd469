"""A real HTTP server on this machine that speaks the OpenAI chat-completions protocol, for tests and demos.

    with OpenAIServer([tool_calls(("add_numbers", {"a": 5, "b": 3})), text("8")]) as server:
        settings.PROVIDER_API_BASES["openai"] = server.base_url      # or OPENAI_API_BASE, or an agent's api_base
        ...
        server.requests[0].body["messages"], server.requests[0].headers["authorization"]

`OpenAIServer(answers, port=0, certificate="")`: `answers` is a list played in order, one entry a request, whose last
entry repeats; or a callable `Request -> Answer`. Answers are made by `text`, `tool_calls`, `error`, `raw` and `hang`;
each takes `delay_seconds`, and `drip` lets any of them come byte by byte. With a `certificate` (a file of both) it is
https. `server.requests` holds every request in order of arrival (method, path, lower-case headers, JSON body,
`connection`: the number of the TCP connection it came on), `server.connected` counts the open connections,
`server.base_url` ends with `/v1`, `server.url` is the address alone, for servers of other dialects (`raw` answers any
path). Leaving the block closes the port and frees requests that hang. Everything is safe to read meanwhile.

As a program: `python -m llm.tests.openai_server --port 8089` serves `demo`: a conversation with tools first gets one
call of the first tool, then an answer; `--echo` only answers the last user message.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any

from llm.tests.openai_connection import Answer, Request, handler_of

Script = Sequence[Answer] | Callable[[Request], Answer]


def completion(message: dict[str, Any], finish_reason: str, usage: tuple[int, int] | None) -> dict[str, Any]:
    """The body of a chat completion, as OpenAI's API reference shows it."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "local",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


def raw(
    status: int,
    body: Any,
    *,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
    delay_seconds: float = 0.0,
) -> Answer:
    """Any answer: `body` is bytes, a str, or a value that is sent as JSON."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    return Answer(status, body, {"Content-Type": content_type, **(headers or {})}, delay_seconds)


def text(
    answer: str,
    *,
    finish_reason: str = "stop",
    usage: tuple[int, int] | None = (11, 7),
    delay_seconds: float = 0.0,
) -> Answer:
    """A plain answer. `usage` is (input, output) tokens."""
    message = {"content": answer}
    return raw(200, completion(message, finish_reason, usage), delay_seconds=delay_seconds)


def tool_calls(
    *calls: tuple[str, Any],
    content: str | None = None,
    finish_reason: str = "tool_calls",
    usage: tuple[int, int] | None = (11, 7),
    delay_seconds: float = 0.0,
) -> Answer:
    """Tool calls with the ids call_0, call_1 …; arguments are an object, or a str sent exactly as it is."""
    listed = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
        for index, (name, arguments) in enumerate(calls)
    ]
    message = {"content": content, "tool_calls": listed}
    return raw(200, completion(message, finish_reason, usage), delay_seconds=delay_seconds)


def events(*told: Any, end: str = "whole", hold: threading.Event | None = None) -> Answer:
    """Server-sent events, each a chunk of its own: a str is sent as it is, all else as JSON."""
    datas = [one if isinstance(one, str) else json.dumps(one) for one in told]
    pieces = tuple(f"data: {data}\n\n".encode() for data in datas)
    return Answer(headers={"Content-Type": "text/event-stream"}, pieces=pieces, end=end, hold=hold)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed completion, as OpenAI's API reference shows it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "local",
            "choices": [choice], **more}  # fmt: skip


def error(
    status: int,
    message: str = "it failed",
    *,
    code: str | None = None,
    retry_after: str | None = None,
    delay_seconds: float = 0.0,
) -> Answer:
    """An error as OpenAI words it; `retry_after` becomes the header, seconds or an HTTP date."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    headers = {"Retry-After": retry_after} if retry_after is not None else {}
    return raw(status, body, headers=headers, delay_seconds=delay_seconds)


def hang() -> Answer:
    """Accepts the request and never answers."""
    return Answer(hangs=True)


def drip(answer: Answer, *, start: str = "body", seconds: float = 1.0) -> Answer:
    """The same answer, a byte at a time from its "headers" or its "body" on."""
    return replace(answer, drips_from=start, drip_seconds=seconds)


def echo(request: Request) -> Answer:
    return text(last_user_text(request.body))


def demo(request: Request) -> Answer:
    """One call of the first offered tool, then an answer that quotes the last result."""
    messages = request.body.get("messages", [])
    tools = request.body.get("tools", [])
    if tools and (not messages or messages[-1]["role"] != "tool"):
        function = tools[0]["function"]
        return tool_calls((function["name"], example(function.get("parameters", {}))))
    if messages and messages[-1]["role"] == "tool":
        return text(f"The tool answered: {messages[-1]['content']}")
    return text(last_user_text(request.body))


def last_user_text(body: Any) -> str:
    said = [message["content"] for message in body.get("messages", []) if message["role"] == "user"]
    return said[-1] if said and isinstance(said[-1], str) else ""


def example(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments that fit a tool's schema well enough for a demonstration."""
    values = {"integer": 5, "number": 5, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties", {})
    wanted = schema.get("required", list(properties))
    by_name = {"expression": "6 * 7", "timezone": "UTC"}
    return {name: by_name.get(name, values.get(properties[name].get("type"), "text")) for name in wanted}


class OpenAIServer:
    """See the module's docstring."""

    def __init__(self, answers: Script, port: int = 0, certificate: str = "") -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections = 0
        self._gone = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler_of(self))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def serve_forever(self) -> None:
        self._http.serve_forever()

    @property
    def connected(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return self._connections - self._gone

    def arrived(self) -> int:
        with self._lock:
            self._connections += 1
            return self._connections

    def left(self) -> None:
        with self._lock:
            self._gone += 1

    def answer(self, request: Request) -> Answer:
        with self._lock:
            position = len(self.requests)
            self.requests.append(request)
        if callable(self.answers):
            return self.answers(request)
        return self.answers[min(position, len(self.answers) - 1)]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="A local server that speaks the OpenAI chat-completions protocol.")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument("--echo", action="store_true", help="answer the last user message, never call a tool")
    options = parser.parse_args(arguments)
    chosen = echo if options.echo else demo
    started = time.monotonic()

    def told(request: Request) -> Answer:
        sys.stdout.write(f"{time.monotonic() - started:8.3f} {request.method} {request.path}\n")
        sys.stdout.flush()
        return chosen(request)

    server = OpenAIServer(told, options.port)
    sys.stdout.write(f"OPENAI_API_BASE={server.base_url}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
