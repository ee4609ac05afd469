"""Chat completions, of OpenAI and of all who speak as it does."""
from __future__ import annotations

import json
from typing import Any

from llm.folds.base import Folded, object_of, text_of, told


class OpenAIFold(Folded):
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
            self.complete, self.ended = self.begun, True
            return ""
        event = object_of(data)
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
        return "".join(text_of(part.get("text") or "") for part in content)
    return text_of(content or "")
