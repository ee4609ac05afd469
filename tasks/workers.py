"""Workers as rows: what each process is, what it holds, when it was last heard of."""
from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now

from tasks.leases import LEASES
from tasks.models import Worker
from tasks.order import HEARTBEATS

log = structlog.get_logger(__name__)

ANNOUNCE = """
INSERT INTO tasks_worker (name, host, pid, version, queues, slots, in_flight, draining, started_at, heartbeat_at)
VALUES (%(name)s, %(host)s, %(pid)s, %(version)s, %(queues)s, %(slots)s, %(in_flight)s, %(draining)s,
    clock_timestamp(), clock_timestamp())
ON CONFLICT (name) DO UPDATE SET
    host = excluded.host, version = excluded.version, queues = excluded.queues, slots = excluded.slots,
    in_flight = excluded.in_flight, draining = excluded.draining, heartbeat_at = excluded.heartbeat_at,
    started_at = CASE WHEN tasks_worker.pid = excluded.pid THEN tasks_worker.started_at ELSE excluded.started_at END,
    pid = excluded.pid
"""
FORGET = "DELETE FROM tasks_worker WHERE heartbeat_at < clock_timestamp() - make_interval(days => 1)"
LEAVE = "DELETE FROM tasks_worker WHERE name = %s AND pid = %s"
UNHEARD = """
SELECT EXISTS (SELECT 1 FROM tasks_task WHERE queue = ANY(%s) AND status = 'pending'
    AND rung_at < clock_timestamp() - make_interval(secs => %s))
"""


@dataclass(slots=True)
class Presence:
    """This process as the fleet sees it. `heard` is the monotonic time of the last bell that reached it."""

    name: str = ""
    queues: list[str] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)

    def begin(self, name: str, queues: list[str]) -> None:
        self.name, self.queues, self.heard = name, queues, time.monotonic()

    def announce(self) -> None:
        """Write this worker's row; one statement, at start and at each heartbeat. Commits."""
        values = {
            "name": self.name, "host": socket.gethostname()[:200], "pid": os.getpid(), "version": settings.VERSION,
            "queues": self.queues, "slots": settings.WORKER_CONCURRENCY, "in_flight": len(LEASES.all()),
            "draining": LEASES.draining.is_set(),
        }  # fmt: skip
        _execute(ANNOUNCE, values)

    def leave(self) -> None:
        """Take this worker's row away when it ends in an orderly way. Commits."""
        _execute(LEAVE, [self.name, os.getpid()])

    def is_deaf(self) -> bool:
        """Whether bells lie unanswered in its queues although slots are free and none has reached it for long.

        Then its connection to the broker is taken for dead, whatever the client library believes. Queries.
        """
        silence = 3 * settings.TASK_REPUBLISH_SECONDS
        full = len(LEASES.all()) >= settings.WORKER_CONCURRENCY
        if full or LEASES.draining.is_set() or time.monotonic() - self.heard < silence:
            return False
        try:
            with connection.cursor() as cursor:
                cursor.execute(UNHEARD, [self.queues, settings.TASK_REPUBLISH_SECONDS / 2])
                return bool(cursor.fetchone()[0])
        finally:
            connection.close()


def roll_call() -> QuerySet[Worker]:
    """Every worker with `live`: heard of within three heartbeats, by PostgreSQL's clock. Does not query yet."""
    silence = timedelta(seconds=HEARTBEATS * settings.TASK_HEARTBEAT_SECONDS)
    heard = ExpressionWrapper(Q(heartbeat_at__gt=Now() - silence), output_field=BooleanField())
    return Worker.objects.annotate(live=heard)


def is_stale(worker: Worker) -> bool:
    """Whether it runs another version of the code than this process."""
    return worker.version != settings.VERSION


def forget_the_silent() -> None:
    """Remove the rows of workers that were not heard of for a day. Commits."""
    _execute(FORGET, [])


def _execute(statement: str, values: Any) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
    finally:
        connection.close()


PRESENCE = Presence()
