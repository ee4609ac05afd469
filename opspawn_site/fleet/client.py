"""The REST API as the fleet's own commands use it, with nothing but the ready line."""
from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from opspawn_site.fleet.errors import FleetError

TIMEOUT_SECONDS = 15.0


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

    def events(self, task_id: str, after: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", f"/tasks/{task_id}/events/?after={after}&limit=200")["data"]
        return found

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
        request = urllib.request.Request(  # noqa: S310
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, ValueError) as error:
            raise Unreachable(f"{self._base} does not answer ({error}): see ./opspawn doctor") from None


def _refusal(error: urllib.error.HTTPError) -> FleetError:
    try:
        problem = json.load(error)
        details = [f"{one['pointer']}: {one['detail']}" for one in problem.get("errors", [])]
        text = "; ".join(details) or problem["detail"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    kind = Unreachable if error.code in (429, 502, 503) else FleetError
    return kind(f"{error.code}: {text}")
