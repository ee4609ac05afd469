"""Folds the events of a streamed answer into the body that a plain call would have been answered with.

So there is one reading of an answer, LiteLLM's own, and an event costs microseconds: its stream wrappers build half a
dozen objects for each.
"""
from __future__ import annotations

import json
from typing import Any, Protocol


class ProviderFailed(Exception):
    """The provider said in its answer that it failed. `status_code` is the HTTP status it stands for."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code, self.message = status_code, message


class Fold(Protocol):
    """`complete`: what has come is a whole answer; `ended`: nothing more will come; `begun`: anything has come."""

    begun: bool
    complete: bool
    ended: bool

    def feed(self, data: str) -> str:
        """Take the data of one event; the text that it adds to the answer. Raises ProviderFailed and ValueError."""

    def body(self) -> dict[str, Any]:
        """What has come, as the body of a plain answer; a cut one is finished by its length."""

    def text(self) -> str: ...


class _Folded:
    """What all have in common."""

    def __init__(self) -> None:
        self.begun = self.complete = self.ended = False
        self._texts: list[str] = []

    def text(self) -> str:
        return "".join(self._texts)

    def _said(self, text: str) -> str:
        if text:
            self._texts.append(text)
        return text


def _object(data: str) -> dict[str, Any]:
    event = json.loads(data)
    if not isinstance(event, dict):
        raise TypeError("an event is no object")
    return event


class OpenAIFold(_Folded):
    """https://platform.openai.com/docs/api-reference/chat-streaming"""

    def __init__(self) -> None:
        super().__init__()
        self._body: dict[str, Any] = {"object": "chat.completion"}
        self._message: dict[str, list[str]] = {}
        self._calls: list[dict[str, Any]] = []
        self._slots: dict[Any, dict[str, Any]] = {}
        self._finish: str | None = None

    def feed(self, data: str) -> str:
        if data == "[DONE]":
            self.complete = self.ended = True
            return ""
        event = _object(data)
        if event.get("error"):
            raise told(event["error"])
        self.begun = True
        for name in ("id", "created", "model", "usage", "system_fingerprint", "provider"):
            if event.get(name) is not None:
                self._body[name] = event[name]
        choices = event.get("choices") or ()
        return self._choice(choices[0]) if choices else ""

    def _choice(self, choice: dict[str, Any]) -> str:
        delta = choice.get("delta") or choice.get("message") or {}
        for name in ("reasoning_content", "reasoning", "refusal"):
            if isinstance(delta.get(name), str):
                self._message.setdefault(name, []).append(delta[name])
        for call in delta.get("tool_calls") or ():
            self._call(call)
        if choice.get("finish_reason"):
            self._finish, self.complete = choice["finish_reason"], True
        return self._said(_words(delta.get("content")))

    def _call(self, part: dict[str, Any]) -> None:
        """Parts of one call share an index; some servers give all calls the same one, and others none."""
        slot = self._slots.get(part.get("index"))
        call_id, function = part.get("id"), part.get("function") or {}
        if slot is None or (call_id and slot["id"] and call_id != slot["id"]):
            slot = self._slots[part.get("index")] = {"id": None, "name": "", "arguments": []}
            self._calls.append(slot)
        slot["id"] = slot["id"] or call_id
        slot["name"] = slot["name"] or function.get("name") or ""
        given = function.get("arguments")
        if given:
            slot["arguments"].append(given if isinstance(given, str) else json.dumps(given))

    def body(self) -> dict[str, Any]:
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._message.items()}
        message |= {"role": "assistant", "content": self.text() or None}
        if self._calls:
            message["tool_calls"] = [_openai_call(call) for call in self._calls]
        finish = self._finish or ("stop" if self.complete else "length")
        return {**self._body, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _openai_call(call: dict[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": "".join(call["arguments"])}
    return {"id": call["id"], "type": "function", "function": function}


def _words(content: Any) -> str:
    """Text is a string, or with some servers a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def told(error: Any) -> ProviderFailed:
    """`{"message", "code"}`; the code is a status with OpenRouter, Google and vLLM, and a word with OpenAI."""
    if not isinstance(error, dict):
        return ProviderFailed(500, str(error))
    code = next((error[name] for name in ("code", "status_code") if isinstance(error.get(name), int)), 0)
    if not 400 <= code < 600:
        code = 429 if "rate_limit" in f"{error.get('code')} {error.get('type')}" else 500
    return ProviderFailed(code, str(error.get("message") or error))


class AnthropicFold(_Folded):
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
        event = _object(data)
        kind = event.get("type")
        if kind == "error":
            error = event.get("error") or {}
            status = self.STATUS_OF_ERROR.get(str(error.get("type")), 500)
            raise ProviderFailed(status, str(error.get("message") or error))
        self.begun = True
        if kind == "message_start":
            self._message = dict(event["message"])
        elif kind == "content_block_start":
            block = self._blocks[event["index"]] = dict(event["content_block"])
            return self._said(block.get("text") or "") if block.get("type") == "text" else ""
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
        self._parts.setdefault(index, {}).setdefault(name, []).append(delta[name])
        return self._said(delta["text"]) if name == "text" else ""

    def _end(self, event: dict[str, Any]) -> None:
        """The count of `message_delta` is the last word, and some of its fields only stand in `message_start`."""
        counted = {name: count for name, count in (event.get("usage") or {}).items() if count is not None}
        self._message["usage"] = {**(self._message.get("usage") or {}), **counted}
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


class GeminiFold(_Folded):
    """https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent"""

    def __init__(self) -> None:
        super().__init__()
        self._body: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []

    def feed(self, data: str) -> str:
        event = _object(data)
        if event.get("error"):
            raise told(event["error"])
        self.begun = True
        self._body |= {name: value for name, value in event.items() if name != "candidates"}
        if (event.get("promptFeedback") or {}).get("blockReason"):
            self.complete = True
        candidates = event.get("candidates") or ()
        return self._take(candidates[0]) if candidates else ""

    def _take(self, candidate: dict[str, Any]) -> str:
        self._candidate |= {name: value for name, value in candidate.items() if name != "content"}
        self.complete = self.complete or bool(candidate.get("finishReason"))
        parts = (candidate.get("content") or {}).get("parts") or ()
        return "".join(self._part(part) for part in parts)

    def _part(self, part: dict[str, Any]) -> str:
        self._parts.append(part)
        return self._said(part.get("text") or "") if not part.get("thought") else ""

    def body(self) -> dict[str, Any]:
        if not self._candidate and not self._parts:
            return self._body
        content = {"role": "model", "parts": _joined(self._parts)}
        finish = {"finishReason": self._candidate.get("finishReason") or "MAX_TOKENS"}
        return {**self._body, "candidates": [{"index": 0, **self._candidate, **finish, "content": content}]}


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pieces of text that follow each other become one part; what carries a signature stays what it is."""
    joined: list[dict[str, Any]] = []
    texts: list[str] = []

    def flush() -> None:
        if texts:
            joined.append({"text": "".join(texts)})
            texts.clear()

    for part in parts:
        if set(part) == {"text"}:
            texts.append(part["text"])
        else:
            flush()
            joined.append(part)
    flush()
    return joined
