"""Is the process up, and can it do its work: /healthz and /readyz."""
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from agents.errors import FieldProblem
from opspawn_site.rest.problems import answer, read_only

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 2.0
# A check that hangs keeps its thread; when all are taken, further checks run out of patience in the queue.
CHECKERS = ThreadPoolExecutor(max_workers=6, thread_name_prefix="health")


class NotReady(Exception):
    """A part is not usable; the message may be shown to anybody."""


@read_only
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is touched."""
    return JsonResponse({"status": "ok"})


@never_cache
@read_only
def readyz(request: HttpRequest) -> HttpResponse:
    """Every part answers in time; 503 naming those that do not."""
    running = {part: CHECKERS.submit(check) for part, check in CHECKS.items()}
    states = {part: state_of(part, future) for part, future in running.items()}
    wrong = [FieldProblem(f"/{part}", "not_ready", state) for part, state in states.items() if state != "ok"]
    if wrong:
        return answer(request, 503, "not_ready", " ".join(one.detail for one in wrong), wrong)
    return JsonResponse({"status": "ok", "checks": states})


def state_of(part: str, future: Future[None]) -> str:
    try:
        future.result(PATIENCE_SECONDS)
    except TimeoutError:
        future.cancel()
        return f"The {part} check did not answer within {PATIENCE_SECONDS:g} s."
    except NotReady as error:
        return str(error)
    except Exception as error:
        log.warning("not_ready", part=part, error=type(error).__name__, reason=str(error)[:200])
        return f"The {part} check failed ({type(error).__name__})."
    return "ok"


def check_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def check_migrations() -> None:
    try:
        missing = known_migrations() - set(MigrationRecorder(connection).applied_migrations())
    finally:
        connection.close()
    if missing:
        app, name = sorted(missing)[0]
        raise NotReady(f"{len(missing)} migrations are missing ({app}.{name} first): run `manage.py migrate`.")


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Those on disk; they do not change while the process lives."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def check_redis() -> None:
    import redis  # a third of a second, which no command but the web needs

    client: Any = redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_connect_timeout=1, socket_timeout=1)
    with client:
        client.ping()


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "migrations": check_migrations,
    "redis": check_redis,
}
