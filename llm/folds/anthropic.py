"""Anthropic's Messages API."""
from __future__ import annotations

import json
from typing import Any

from llm.folds.base import Folded, ProviderFailed, object_of, text_of


class AnthropicFold(Folded):
    """https://docs.anthropic.com/en/docs/build-with-claude/streaming"""

    STATUS_OF_ERROR = {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
    """https://docs.anthropic.com/en/api/errors"""

    PARTS = {
        "text_delta": "text",
        "input_json_delta": "partial_json",
        "thinking_delta": "thinking",
        "signature_delta": "signature",
    }

    def __init__(self) -> None:
        super().__init__()
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, dict[str, list[str]]] = {}

    def feed(self, data: str) -> str:
        event = object_of(data)
        kind = event.get("type")
        if kind == "error":
            error = event.get("error") or {}
            status = self.STATUS_OF_ERROR.get(str(error.get("type")), 500)
            raise ProviderFailed(status, str(error.get("message") or error))
        self.begun = True
        if kind == "message_start":
            self._message = dict(event["message"])
        elif kind == "content_block_start":
            block = dict(event["content_block"])
            said = self._said(block.get("text") or "") if block.get("type") == "text" else ""
            self._blocks[event["index"]] = block
            return said
        elif kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        elif kind == "message_delta":
            self._end(event)
        elif kind == "message_stop":
            self.complete = self.ended = True
        return ""

    def _delta(self, index: int, delta: dict[str, Any]) -> str:
        name = self.PARTS.get(delta["type"])
        if name is None:
            return ""
        self._parts.setdefault(index, {}).setdefault(name, []).append(text_of(delta[name]))
        return self._said(delta["text"]) if name == "text" else ""

    def _end(self, event: dict[str, Any]) -> None:
        """The count of `message_delta` is the last word, and some of its fields only stand in `message_start`."""
        counted = {name: count for name, count in (event.get("usage") or {}).items() if count is not None}
        if not self._message.get("usage"):
            self._message["usage"] = {}
        self._message["usage"].update(counted)  # in place: a copy for each event would be quadratic
        self._message |= {name: value for name, value in event["delta"].items() if value is not None}
        self.complete = self.complete or bool(event["delta"].get("stop_reason"))

    def body(self) -> dict[str, Any]:
        content = [self._block(index) for index in sorted(self._blocks)]
        stopped = {"stop_reason": self._message.get("stop_reason") or "max_tokens"}
        usage = {"input_tokens": 0, "output_tokens": 0, **(self._message.get("usage") or {})}
        return {"model": "", **self._message, **stopped, "usage": usage, "content": content}

    def _block(self, index: int) -> dict[str, Any]:
        block = dict(self._blocks[index])
        for name, parts in self._parts.get(index, {}).items():
            joined = "".join(parts)
            if name == "partial_json":
                block["input"] = _read_or_raw(joined)
            else:
                block[name] = (block.get(name) or "") + joined
        return block


def _read_or_raw(text: str) -> Any:
    """The arguments of a tool call; what is cut short stays text, which `llm.arguments` refuses with the reason."""
    try:
        return json.loads(text)
    except ValueError:
        return text
