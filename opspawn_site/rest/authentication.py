"""Who asks: the API key in `Authorization: Bearer ops_…` (RFC 6750)."""
from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tasks import keys
from tasks.models import ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """`request.auth` is the ApiKey; there is no user."""

    def authenticate(self, request: Request) -> tuple[None, ApiKey] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationFailed("Use the header `Authorization: Bearer ops_…` with an API key.")
        key = keys.find(token.strip())
        if key is None:
            raise AuthenticationFailed("There is no such API key.")
        if why := keys.refusal(key):
            raise AuthenticationFailed(why)
        keys.note_use(key)
        request._request.api_key = key  # type: ignore[attr-defined]  # for the access line
        return None, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
