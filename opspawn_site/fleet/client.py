"""The REST API as the fleet's own commands use it, with nothing but the ready line."""
from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any

from opspawn_site.fleet.errors import FleetError

TIMEOUT_SECONDS = 15.0
SILENCE_SECONDS = 30.0  # of a stream, which sends a comment every 10 s
BROKEN = (OSError, ValueError, HTTPException)  # no connection, or one that ended in the middle of an answer


class Unreachable(FleetError):
    """The API does not answer; it may be starting again."""


class Client:
    """One key at one address. Every method is one request; refusals are FleetErrors in the API's own words."""

    def __init__(self, line: dict[str, Any]) -> None:
        self._base = line["api"]
        self._key = line["api_key"]

    def submit(self, body: dict[str, Any], *, idempotency_key: str = "") -> dict[str, Any]:
        return self._ask("POST", "/tasks/", body, {"Idempotency-Key": idempotency_key} if idempotency_key else {})

    def cancel(self, task_id: str) -> dict[str, Any]:
        return self._ask("POST", f"/tasks/{task_id}/cancel/", {})

    def task(self, task_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/tasks/{task_id}/")

    def steps(self, task_id: str) -> list[dict[str, Any]]:
        return self._all(f"/tasks/{task_id}/steps/?limit=200")

    def stream(self, task_id: str, after: int) -> Iterator[dict[str, Any] | None]:
        """The task's events after that one as they come, and None for each other sign of life.

        Ends when the server closes the stream, which need not be the task's end. Raises Unreachable when it breaks.
        """
        try:
            resume = {"Last-Event-ID": str(after)}
            with self._open("GET", f"/tasks/{task_id}/stream/", None, resume, SILENCE_SECONDS) as lines:
                for line in lines:
                    yield json.loads(line[6:]) if line.startswith(b"data: ") else None
        except BROKEN as error:
            raise self._unreachable(error) from None

    def _all(self, path: str) -> list[dict[str, Any]]:
        page = self._ask("GET", path)
        found: list[dict[str, Any]] = page["data"]
        while page.get("has_more"):
            page = self._ask("GET", f"{path}&cursor={page['next_cursor']}")
            found += page["data"]
        return found

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            with self._open(method, path, body, headers) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except BROKEN as error:
            raise self._unreachable(error) from None

    def _open(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> HTTPResponse:  # fmt: skip
        request = urllib.request.Request(  # noqa: S310
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **(headers or {})},
        )
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310
            return answer
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self._base} does not answer ({error}): see ./opspawn doctor")


def _refusal(error: urllib.error.HTTPError) -> FleetError:
    try:
        problem = json.load(error)
        details = [f"{one['pointer']}: {one['detail']}" for one in problem.get("errors", [])]
        text = "; ".join(details) or problem["detail"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    kind = Unreachable if error.code in (429, 502, 503) else FleetError
    return kind(f"{error.code}: {text}")
