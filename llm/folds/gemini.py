"""Gemini's generateContent."""
from __future__ import annotations

from typing import Any

from llm.folds.base import Folded, object_of, text_of, told


class GeminiFold(Folded):
    """https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent"""

    def __init__(self) -> None:
        super().__init__()
        self._body: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []

    def feed(self, data: str) -> str:
        event = object_of(data)
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
        text = text_of(part.get("text") or "")
        self._parts.append(part)
        return self._said(text) if not part.get("thought") else ""

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
