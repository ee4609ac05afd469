#!/usr/bin/env python
"""What a model call costs: CPU by transport with tools and a growing history, a hundred at once, memory over many.

Usage: python benchmarks/model_call.py [--json] [--rounds N] [--threads N] [--calls N]     (from the repository root)
Calls a server of its own process on this machine, which answers at once in OpenAI's protocol, with five tools and a
conversation that grows to 10 and to 50 turns, through raw httpx, `litellm.completion` with and without its base HTTP
handler, and `llm.gateway.complete`, plain and streamed. CPU is this process's, the least of N rounds (default 5); what
counts is the ratio to raw httpx. `--threads 100` makes three calls of one second in each of so many threads, against
as many alone; `--calls 20000` makes so many calls and compares the memory before and after.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODEL = "gpt-4o-mini"
KEY = "sk-benchmark"
WARM_CALLS = 2000

SERVER = r"""
import asyncio, json, os, sys
CALL = {"id": "call_1", "type": "function", "function": {"name": "tool_1", "arguments": '{"a": 5, "b": 3}'}}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
MESSAGE = {"role": "assistant", "content": None, "tool_calls": [CALL]}
PLAIN = json.dumps(HEAD | {"object": "chat.completion", "usage": USAGE,
                   "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}]}).encode()
DELTAS = [{"role": "assistant", "content": ""}] + [{"content": "four letters "}] * 20
CHUNKS = [HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in DELTAS]
CHUNKS += [HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
CHUNKS += [HEAD | {"choices": [], "usage": USAGE}]
EVENTS = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in CHUNKS) + b"data: [DONE]\n\n"

async def serve(source, sink):
    while head := await source.readuntil(b"\r\n\r\n"):
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await source.readexactly(int(lines[b"content-length"]))
        if b"SLOWLY" in body:
            await asyncio.sleep(1)
        kind, answer = ("text/event-stream", EVENTS) if b'"stream": true' in body else ("application/json", PLAIN)
        size = len(answer)
        sink.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + answer)

async def connected(source, sink):
    try:
        await serve(source, sink)
    except (asyncio.IncompleteReadError, OSError):
        sink.close()

async def main():
    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**24, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)

asyncio.run(main())
"""

Call = Callable[[int], None]
"""Makes the call of a turn, counted from 0."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Its address, as an `api_base`."""
    program = [sys.executable, "-c", SERVER]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.stdin.close()


def tools() -> list[dict[str, Any]]:
    number = {"type": "number", "description": "One of the two numbers."}
    parameters = {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]}
    told = {"description": "Does something with two numbers and says what came of it.", "parameters": parameters}
    return [{"type": "function", "function": {"name": f"tool_{index}", **told}} for index in range(5)]


def conversation(turns: int, text: str = "add") -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    for turn in range(turns):
        function = {"name": "tool_1", "arguments": '{"a": 5, "b": 3}'}
        called = [{"id": f"call_{turn}", "type": "function", "function": function}]
        said.append({"role": "assistant", "content": None, "tool_calls": called})
        said.append({"role": "tool", "tool_call_id": f"call_{turn}", "content": '{"sum": 8, "said": "more"}'})
    return said


def raw_httpx(base: str) -> Call:
    import httpx

    client, headers, offered = httpx.Client(), {"Authorization": f"Bearer {KEY}"}, tools()

    def call(turn: int) -> None:
        body = {"model": MODEL, "messages": conversation(turn), "tools": offered}
        client.post(f"{base}/chat/completions", headers=headers, json=body).json()["choices"][0]

    return call


def litellm_completion(base: str, base_handler: bool) -> Call:
    from llm import litellm_calls

    litellm_calls.load()
    import litellm

    litellm.client_session = None  # its own connections, as it comes
    offered = tools()

    def call(turn: int) -> None:
        os.environ["EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"] = "true" if base_handler else "false"
        litellm.completion(model=f"openai/{MODEL}", messages=conversation(turn), tools=offered, api_base=base,
                           api_key=KEY, max_retries=0, _skip_mcp_handler=True)  # fmt: skip

    return call


def ours(base: str, streamed: bool, text: str = "add") -> Call:
    from llm.gateway import complete
    from llm.messages import Message, ModelCall, ModelSettings, ToolRequest, ToolSpec

    offered = tuple(ToolSpec(one["function"]["name"], one["function"]["description"], one["function"]["parameters"])
                    for one in tools())  # fmt: skip
    settings = ModelSettings(f"openai/{MODEL}", api_base=base)

    def message(said: dict[str, Any]) -> Message:
        made = tuple(ToolRequest(one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
                     for one in said.get("tool_calls", ()))  # fmt: skip
        return Message(said["role"], said["content"] or "", made, said.get("tool_call_id", ""))

    def call(turn: int) -> None:
        said = tuple(message(one) for one in conversation(turn, text))
        on_delta = (lambda delta: None) if streamed else None
        complete(ModelCall(settings, said, offered), on_retry=lambda attempt, wait: None, should_stop=lambda: False,
                 on_delta=on_delta)  # fmt: skip

    return call


def transports(base: str) -> dict[str, Call]:
    return {
        "raw httpx": raw_httpx(base),
        "litellm.completion": litellm_completion(base, base_handler=False),
        "litellm, base handler": litellm_completion(base, base_handler=True),
        "llm.gateway": ours(base, streamed=False),
        "llm.gateway, streamed": ours(base, streamed=True),
    }


def cpu_ms(call: Call, turns: int) -> float:
    """For each of the calls of a conversation that grows to so many turns."""
    began = time.process_time()
    for turn in range(turns):
        call(turn)
    return (time.process_time() - began) * 1000 / turns


def by_transport(base: str, rounds: int) -> dict[str, dict[str, float]]:
    called = transports(base)
    for call in called.values():
        cpu_ms(call, 10)
    return {
        f"{turns} turns": {
            name: round(min(cpu_ms(call, turns) for _ in range(rounds)), 3) for name, call in called.items()
        }
        for turns in (10, 50)
    }


def seconds_of(call: Call) -> float:
    began = time.perf_counter()
    call(0)
    return time.perf_counter() - began


def at_once(base: str, threads: int) -> dict[str, float]:
    """Calls of a second: the median alone, and the 95th percentile of those in so many threads, in seconds."""
    call = ours(base, streamed=True, text="SLOWLY")
    call(0)
    alone = statistics.median(seconds_of(call) for _ in range(3))
    taken: list[float] = []

    def three() -> None:
        taken.extend(seconds_of(call) for _ in range(3))

    running = [threading.Thread(target=three) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    p95 = statistics.quantiles(taken, n=20)[-1]
    return {"alone": round(alone, 3), "p95": round(p95, 3), "ratio": round(p95 / alone, 2)}


def memory(base: str, calls: int) -> dict[str, float]:
    """MiB after the first calls and after all of them."""
    call, process = ours(base, streamed=True), psutil.Process()

    def after(count: int) -> float:
        for number in range(count):
            call(number % 20)
        return process.memory_info().rss / 2**20

    before = after(WARM_CALLS)
    end = after(calls - WARM_CALLS)
    return {"before_mib": round(before, 1), "after_mib": round(end, 1), "percent": round((end / before - 1) * 100, 1)}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--threads", type=int, default=0)
    asked.add_argument("--calls", type=int, default=0)
    options = asked.parse_args()
    os.environ |= {"DJANGO_SETTINGS_MODULE": "opspawn_site.settings", "OPENAI_API_KEY": KEY}
    from opspawn_site import testing

    end = testing.start()  # Redis holds the circuits
    try:
        import django

        django.setup()
        measure(options)
    finally:
        end()
    return 0


def measure(options: argparse.Namespace) -> None:
    with server() as base:
        found: dict[str, Any] = {}
        if options.threads:
            found["threads"] = at_once(base, options.threads)
        if options.calls:
            found["memory"] = memory(base, options.calls)
        if not found:
            found = by_transport(base, options.rounds)
    print(json.dumps(found) if options.json else table(found))


def table(found: dict[str, Any]) -> str:
    lines = []
    for title, row in found.items():
        lines.append(f"{title}")
        least = row.get("raw httpx")
        for name, value in row.items():
            ratio = f"{value / least:8.1f} x" if least else ""
            lines.append(f"  {name:<24}{value:>9}{' ms CPU a call' if least else ''}{ratio}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
