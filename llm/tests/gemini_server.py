"""A real HTTP server on this machine that speaks Gemini's generateContent, for tests.

As `llm.tests.openai_server`, with answers made by `message`, `streamed` and `error` of this module. A request that
Google would refuse is refused as Google does: https://ai.google.dev/api/generate-content
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llm.tests.openai_connection import Answer, Request
from llm.tests.openai_server import OpenAIServer, events, raw

STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip
FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def message(
    text: str = "",
    calls: Sequence[tuple[str, Any]] = (),
    finish: str = "stop",
    usage: tuple[int, int] = (11, 7),
    cached: int = 0,
) -> Answer:
    """A plain answer. `usage` is (input, output) tokens, `cached` of the input are read from the cache."""
    parts = [{"text": text}] if text else []
    return raw(200, _body(parts + _calls(calls), FINISHES[finish], _usage(usage, cached)))


def streamed(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Any]] = (),
    finish: str = "stop",
    usage: tuple[int, int] = (11, 7),
    cached: int = 0,
    **how: Any,
) -> Answer:
    """The same as events: each a whole body with what is new, the last with the finish; all count tokens so far."""
    told = [_body([{"text": text}], None, _usage((usage[0], 1), cached)) for text in texts]
    last = _body(_calls(calls) or [{"text": ""}], FINISHES[finish], _usage(usage, cached))
    return events(*told, last, **how)


def error(status: int, message: str = "it failed", **headers: str) -> Answer:
    return raw(status, failure(status, message), headers=headers)


def failure(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


def _calls(calls: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": name, "args": arguments}} for name, arguments in calls]


def _body(parts: list[dict[str, Any]], finish: str | None, usage: dict[str, int]) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-pro", "responseId": "r1"}


def _usage(usage: tuple[int, int], cached: int) -> dict[str, int]:
    told = {"promptTokenCount": usage[0], "candidatesTokenCount": usage[1], "totalTokenCount": sum(usage)}
    return told | ({"cachedContentTokenCount": cached} if cached else {})


class GeminiServer(OpenAIServer):
    """See the module's docstring; `base_url` ends with the version."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1beta"

    def answer(self, request: Request) -> Answer:
        given = super().answer(request)
        wrong = what_is_wrong(request)
        return error(403 if "key" in wrong else 400, wrong) if wrong else given


def what_is_wrong(request: Request) -> str:
    """Why Google would refuse the request; '' when it would not."""
    if not re.fullmatch(r"/v1beta/models/[\w.-]+:(generateContent|streamGenerateContent\?alt=sse)", request.path):
        return f"no such path: {request.path}"
    if not request.headers.get("x-goog-api-key"):
        return "Method doesn't allow unregistered callers; use an API key"
    contents = request.body.get("contents") or []
    if not contents or any(said["role"] not in ("user", "model") or not said["parts"] for said in contents):
        return f"contents: {contents}"
    parts = [part for said in contents for part in said["parts"]]
    asked = sum(_has(part, "functionCall", "function_call") for part in parts)
    if asked != sum(_has(part, "functionResponse", "function_response") for part in parts):
        return "the number of function response parts is not that of the function call parts"
    return ""


def _has(part: dict[str, Any], *names: str) -> bool:
    return any(name in part for name in names)
