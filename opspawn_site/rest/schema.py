"""The OpenAPI 3.1 document: what exists, how it is authorised, and the one shape of every error."""
from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

ERRORS = {
    "400": "The request is not valid; `errors` names each problem.",
    "401": "No API key, or one that cannot be used.",
    "403": "The API key lacks a scope.",
    "404": "There is nothing here, or another key's.",
    "409": "Not in this state.",
    "412": "`If-Match` is stale.",
    "413": "The body is larger than REQUEST_MAX_BYTES.",
    "415": "The body is not application/json.",
    "422": "The Idempotency-Key was used with another body.",
    "500": "An unexpected error, logged under `request_id`.",
    "503": "The database cannot be reached; `Retry-After` says when to try again.",
}
ALWAYS = ("400", "401", "403", "500", "503")
WITH_BODY = ("413", "415")
PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer (RFC 6901), or `/name` of a parameter."},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class OperationSchema(AutoSchema):
    """An operation with its problems. A view's `problems` names the statuses that are its own, by method."""

    def get_tags(self) -> list[str]:
        return [self.path.split("/")[3]]

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        component = ResolvedComponent(name="Problem", type=ResolvedComponent.SCHEMA, schema=PROBLEM, object="Problem")
        self.registry.register_on_missing(component)
        own = getattr(self.view, "problems", {}).get(self.method, ())
        for status in sorted({*ALWAYS, *own, *(WITH_BODY if self.method in ("POST", "PATCH") else ())}):
            content = {"application/problem+json": {"schema": component.ref}}
            responses.setdefault(status, {"content": content, "description": ERRORS[status]})
        return responses


class BearerKey(OpenApiAuthenticationExtension):
    """How the schema shows ApiKeyAuthentication."""

    target_class = "opspawn_site.rest.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: `ops_…`."}


class NoMoreFields(OpenApiSerializerExtension):
    """A strict body refuses what it does not name, and its schema says so."""

    target_class = "agents.requests.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


@cache
def document() -> bytes:
    """Made once in the life of a process: it takes a tenth of a second and depends on the code alone."""
    return json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str).encode()


def schema(request: HttpRequest) -> HttpResponse:
    return HttpResponse(document(), content_type="application/json")
