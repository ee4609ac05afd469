"""A consumer of the API for tests: Django's client with a key."""
from __future__ import annotations

import json
from typing import Any

from django.test import Client

from tasks import keys
from tasks.models import DEFAULT_SCOPES


class Consumer:
    """Sends JSON with its own API key; `raw` sends what it is given."""

    def __init__(self, *scopes: str) -> None:
        self.key, self.token = keys.issue("test", scopes or DEFAULT_SCOPES)
        keys.note_use(self.key)  # so that queries counted in a test are those of any other request
        self.http = Client(raise_request_exception=False)
        self.auth = {"HTTP_AUTHORIZATION": f"Bearer {self.token}"}

    def get(self, path: str, **headers: Any) -> Any:
        return self.http.get(f"/api/v1{path}", **self.auth, **headers)

    def post(self, path: str, body: Any = None, **headers: Any) -> Any:
        return self.raw("POST", path, b"" if body is None else json.dumps(body), **headers)

    def patch(self, path: str, body: Any, **headers: Any) -> Any:
        return self.raw("PATCH", path, json.dumps(body), **headers)

    def raw(
        self, method: str, path: str, data: bytes | str, content_type: str = "application/json", **headers: Any
    ) -> Any:
        return self.http.generic(method, f"/api/v1{path}", data, content_type, **self.auth, **headers)


def pointers(response: Any) -> dict[str, str]:
    """The problems of an answer: pointer → code."""
    assert response["Content-Type"] == "application/problem+json", response.content
    return {one["pointer"]: one["code"] for one in response.json()["errors"]}
