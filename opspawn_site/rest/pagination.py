"""Pages by key: no COUNT, no OFFSET, so that page 1,000 costs what page 1 does."""
from __future__ import annotations

import base64
import json
from typing import Any

from django.core.signing import BadSignature, Signer
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class NewestFirst(BasePagination):
    """`{"data", "next_cursor", "has_more"}`. A view's `page_by` names its unique column; without one it is `-id`."""

    parameters = ("limit", "cursor")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        order = getattr(view, "page_by", "-id")
        column, signer = order.lstrip("-"), Signer(salt=f"cursor of {type(view).__name__}")
        limit = limit_of(request.query_params.get("limit"))
        cursor = request.query_params.get("cursor")
        if cursor is not None:
            beyond = "lt" if order.startswith("-") else "gt"
            queryset = queryset.filter(**{f"{column}__{beyond}": opened(cursor, signer)})
        rows = list(queryset.order_by(order)[: limit + 1])
        self.has_more = len(rows) > limit
        rows = rows[:limit]
        self.next_cursor = sealed(getattr(rows[-1], column), signer) if self.has_more else None
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"data": data, "next_cursor": self.next_cursor, "has_more": self.has_more})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["data", "next_cursor", "has_more"],
            "properties": {
                "data": schema,
                "next_cursor": {"type": ["string", "null"], "description": "Give it as `cursor` to read on."},
                "has_more": {"type": "boolean"},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {"name": "limit", "in": "query", "description": "Rows of a page.", "schema": limit},
            {"name": "cursor", "in": "query", "description": "`next_cursor` of the page before.",
             "schema": {"type": "string"}},
        ]  # fmt: skip


def limit_of(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT):
        detail = f"limit={text[:20]!r}: use a whole number from 1 to {MAX_LIMIT}."
        raise ValidationError({"limit": [ErrorDetail(detail, "invalid_limit")]})
    return int(text)


def sealed(value: Any, signer: Signer) -> str:
    """The cursor after a row: opaque, and signed so that only what was handed out comes back."""
    return base64.urlsafe_b64encode(signer.sign(json.dumps(value)).encode()).decode().rstrip("=")


def opened(cursor: str, signer: Signer) -> Any:
    try:
        return json.loads(signer.unsign(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()))
    except (BadSignature, ValueError):
        detail = "The cursor is not one of this list; give `next_cursor` as it was answered."
        raise ValidationError({"cursor": [ErrorDetail(detail, "invalid_cursor")]}) from None
