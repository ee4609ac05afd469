"""What every fold has in common, and how a provider says in its answer that it failed."""
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


class Folded:
    """What all have in common."""

    def __init__(self) -> None:
        self.begun = self.complete = self.ended = False
        self._texts: list[str] = []

    def text(self) -> str:
        return "".join(self._texts)

    def _said(self, text: Any) -> str:
        if text_of(text):
            self._texts.append(text)
        return text


def text_of(given: Any) -> str:
    """A piece of text as it came. Raises TypeError for anything else, so that it fails where it comes in."""
    if not isinstance(given, str):
        raise TypeError("a piece of text is no string")
    return given


def object_of(data: str) -> dict[str, Any]:
    event = json.loads(data)
    if not isinstance(event, dict):
        raise TypeError("an event is no object")
    return event


def told(error: Any) -> ProviderFailed:
    """`{"message", "code"}`; the code is a status with OpenRouter, Google and vLLM, and a word with OpenAI."""
    if not isinstance(error, dict):
        return ProviderFailed(500, str(error))
    code = next((error[name] for name in ("code", "status_code") if isinstance(error.get(name), int)), 0)
    if not 400 <= code < 600:
        code = 429 if "rate_limit" in f"{error.get('code')} {error.get('type')}" else 500
    return ProviderFailed(code, str(error.get("message") or error))
