"""What Prometheus reads at /metrics: this process, its build and its HTTP requests. No query is made."""
from __future__ import annotations

import platform

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from opspawn_site.rest.problems import read_only
from tasks.watch import WATCH

BUILD = Gauge("opspawn_build_info", "Version of Opspawn and of Python; always 1.", ("version", "python"))
BUILD.labels(settings.VERSION, platform.python_version()).set(1)
REQUESTS = Counter("opspawn_http_requests", "HTTP requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "opspawn_http_request_seconds",
    "Time from the arrival of a request to its answer, waits included.",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STREAMS = Gauge("opspawn_open_streams", "Event streams that this process sends now.")
STREAMS.set_function(WATCH.open_streams)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def observe(method: str, route: str, status: int, seconds: float) -> None:
    REQUESTS.labels(method if method in METHODS else "other", route, str(status)).inc()
    SECONDS.labels(route).observe(seconds)


@read_only
def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
