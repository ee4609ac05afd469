"""A real HTTP server on this machine that speaks Anthropic's Messages API, for tests.

As `llm.tests.openai_server`, with answers made by `message`, `streamed` and `error` of this module. A request that
Anthropic would refuse is refused as Anthropic does: https://docs.anthropic.com/en/api/messages
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from llm.tests.openai_connection import Answer, Request
from llm.tests.openai_server import OpenAIServer, raw

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 503: "api_error", 529: "overloaded_error",
}  # fmt: skip
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def message(
    text: str = "",
    calls: Sequence[tuple[str, Any]] = (),
    finish: str = "stop",
    usage: tuple[int, int] = (11, 7),
    cached: int = 0,
) -> Answer:
    """A plain answer. `usage` is (input, output) tokens, `cached` of the input are read from the cache."""
    content = [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": arguments}
        for index, (name, arguments) in enumerate(calls)
    ]
    return raw(200, _message(content, STOPS[finish], _usage(usage, cached)))


def streamed(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Any]] = (),
    finish: str = "stop",
    usage: tuple[int, int] = (11, 7),
    cached: int = 0,
    **how: Any,
) -> Answer:
    """The same as events; arguments come in pieces of five characters, and a ping is among them."""
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message([], None, _usage((usage[0], 1), cached))},
        {"type": "ping"},
    ]
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if texts:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in texts]))
    for index, (name, arguments) in enumerate(calls):
        opened = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        pieces = ["", *(written[at : at + 5] for at in range(0, len(written), 5))]
        blocks.append((opened, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]))
    for index, (opened, deltas) in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": opened})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": STOPS[finish], "stop_sequence": None}
    told.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage[1]}})
    return events([*told, {"type": "message_stop"}], **how)


def events(told: Sequence[dict[str, Any]], **how: Any) -> Answer:
    """Anthropic names each event before its data."""
    pieces = tuple(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told)
    return Answer(headers={"Content-Type": "text/event-stream; charset=utf-8"}, pieces=pieces, **how)


def error(status: int, message: str = "it failed", **headers: str) -> Answer:
    return raw(status, failure(status, message), headers=headers)


def failure(status: int, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": TYPES.get(status, "api_error"), "message": message}}


def _message(content: list[dict[str, Any]], stop_reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": content,
            "stop_reason": stop_reason, "stop_sequence": None, "usage": usage}  # fmt: skip


def _usage(usage: tuple[int, int], cached: int) -> dict[str, int]:
    """Anthropic's `input_tokens` are those beside the cache."""
    return {"input_tokens": usage[0] - cached, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
            "output_tokens": usage[1]}  # fmt: skip


class AnthropicServer(OpenAIServer):
    """See the module's docstring; `base_url` is without `/v1`."""

    @property
    def base_url(self) -> str:
        return self.url

    def answer(self, request: Request) -> Answer:
        given = super().answer(request)
        wrong = what_is_wrong(request)
        return error(401 if "key" in wrong else 400, wrong) if wrong else given


def what_is_wrong(request: Request) -> str:
    """Why Anthropic would refuse the request; '' when it would not."""
    body = request.body
    if request.path != "/v1/messages":
        return f"no such path: {request.path}"
    if not request.headers.get("x-api-key"):
        return "x-api-key header is required"
    if request.headers.get("anthropic-version") != "2023-06-01":
        return "anthropic-version: header is required"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    roles = [said["role"] for said in body["messages"]]
    if not roles or roles[0] != "user" or any(first == second for first, second in pairwise(roles)):
        return f"messages: roles must alternate and begin with user: {roles}"
    for asked, answered in pairwise(body["messages"]):
        wanted = [block["id"] for block in _blocks(asked) if block["type"] == "tool_use"]
        given = [block["tool_use_id"] for block in _blocks(answered) if block["type"] == "tool_result"]
        if wanted and wanted != given:
            return f"messages: `tool_use` ids were found without `tool_result` blocks: {wanted}"
    return ""


def _blocks(said: dict[str, Any]) -> list[dict[str, Any]]:
    return said["content"] if isinstance(said["content"], list) else []
