"""The admin's first page: what ran, what failed, and the one thing to do next."""
from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, IntegerField, Sum
from django.db.models.functions import Greatest
from django.http import HttpRequest
from django.utils import timezone

from agents.models import Agent
from tasks.models import Task
from tasks.states import Status
from tasks.workers import roll_call

COUNT_CAP = 1000
FAILURES_SHOWN = 8
CREATED_SINCE = datetime.timedelta(hours=24)

# The count of one status, which stops at the cap; ids sort by time. One SELECT for each, with its own plan: the
# index of status and id for the rare ones, the primary key for the common.
COUNT = "SELECT %s, count(*) FROM (SELECT 1 FROM tasks_task WHERE status = %s AND id >= %s LIMIT %s) AS newest"


def environment(request: HttpRequest) -> list[str]:
    """The label in the corner: DEBUG is said loudly, else the version."""
    return ["DEBUG is on", "danger"] if settings.DEBUG else [settings.VERSION, "info"]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows to those who may see tasks; at most five queries, each bounded."""
    if not request.user.has_perm("tasks.view_task"):
        return context | {"title": "Overview", "blind": True}
    failed = Task.objects.filter(status=Status.FAILED).select_related("version__agent")
    failed = failed.only(
        "id", "name", "error_code", "error_message", "completed_at", "version__version", "version__agent__slug"
    )  # fmt: skip
    return context | {
        "title": "Overview",
        "counts": [
            {"label": status.label, "status": status.value, "count": count, "capped": count >= COUNT_CAP}
            for status, count in _counts(list(Status))
        ],
        "failures": list(failed.order_by("-id")[:FAILURES_SHOWN]),
        "any_agent": Agent.objects.exists(),
        "any_task": Task.objects.exists(),
        "default_agent": settings.DEFAULT_AGENT,
        "keyless": not any(settings.PROVIDER_KEYS.values()),
        "workers": workers(),
    }


def workers() -> dict[str, int]:
    """Live workers that still claim, and their slots that were free at the last heartbeat."""
    at_work = roll_call().filter(live=True, draining=False)  # type: ignore[misc]  # `live` is annotated
    free = Sum(Greatest(F("slots") - F("in_flight"), 0, output_field=IntegerField()), default=0)
    return at_work.aggregate(count=Count("id"), free=free)


def _counts(statuses: list[Any]) -> list[tuple[Any, int]]:
    since = f"task_{int((timezone.now() - CREATED_SINCE).timestamp() * 1000):012x}"
    values = [value for status in statuses for value in (status.value, status.value, since, COUNT_CAP)]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([COUNT] * len(statuses)), values)
        found = dict(cursor.fetchall())
    return [(status, found[status.value]) for status in statuses]
