"""The outermost layer: every request has an id in its answer and its log lines, one access line, one observation."""
from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from opspawn_site import metrics
from opspawn_site.rest import problems
from tasks.watch import HOLD

log = structlog.get_logger("opspawn.access")

CLIENTS_OWN = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
TOO_LARGE = "opspawn.too_large"  # set in the environ by asgi.py: the body was not read
ARRIVED = "opspawn.arrived"  # time.perf_counter() when the request arrived, also of one that was held


class RequestIdMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        arrived = request.META.get(ARRIVED) or time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if CLIENTS_OWN.match(given) else secrets.token_hex(16)
        request.request_id = request_id  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if request.META.get(TOO_LARGE):
                response = problems.too_large(request, settings.REQUEST_MAX_BYTES)
            else:
                response = self.get_response(request)
            response["X-Request-ID"] = request_id
            if not request.META.get(HOLD):  # a held request is asked again, and told of then
                tell(request, response, time.perf_counter() - arrived)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """A view of Django's own (the admin) that met a database which is away."""
        return problems.unavailable(request, exception) if isinstance(exception, problems.UNAVAILABLE) else None


def tell(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """One access line and one observation. The route, never the path: paths are unbounded and hold ids."""
    route = "/" + request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.observe(str(request.method), route, response.status_code, seconds)
    key = getattr(request, "api_key", None)
    log.info(
        "request", method=request.method, route=route, status=response.status_code,
        ms=round(seconds * 1000, 1), key=key.prefix if key else None,
    )  # fmt: skip
