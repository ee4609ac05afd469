"""One language: whatever a client accepts, it is answered in JSON; a body in anything else is a 415."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

MERGE_PATCH = "application/merge-patch+json"  # RFC 7396


class AlwaysJSON(BaseContentNegotiation):
    """`Accept` is not read."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        media_type, *parameters = [part.strip().lower() for part in (request.content_type or "").split(";")]
        charsets = {part.removeprefix("charset=").strip('" ') for part in parameters if part.startswith("charset=")}
        if charsets - {"utf-8", "utf8", "us-ascii"}:
            return None
        if media_type == "application/json" or (media_type == MERGE_PATCH and request.method == "PATCH"):
            return next(iter(parsers))
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, Any]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
