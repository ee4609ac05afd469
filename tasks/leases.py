"""What this worker process holds: one lease per running task, renewed together by one heartbeat thread.

PostgreSQL's clock decides who holds a lease; the monotonic deadline kept here only makes a worker stop early.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

log = structlog.get_logger(__name__)

# Rows in id order and SKIP LOCKED: a journal write that holds a row never makes the heartbeat wait or deadlock.
RENEW = """
WITH held AS (SELECT * FROM unnest(%(ids)s::text[], %(attempts)s::int[]) AS h(id, attempt)),
mine AS (
    SELECT task.id FROM tasks_task AS task JOIN held USING (id, attempt)
    WHERE task.status = 'running' ORDER BY task.id FOR UPDATE OF task SKIP LOCKED
)
UPDATE tasks_task AS task SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM mine WHERE task.id = mine.id
RETURNING task.id, task.cancel_requested_at IS NOT NULL
"""
STILL_HELD = """
SELECT task.id FROM tasks_task AS task
JOIN unnest(%(ids)s::text[], %(attempts)s::int[]) AS h(id, attempt) USING (id, attempt)
WHERE task.status = 'running'
"""
ASKED_TO_STOP = """
SELECT task.id FROM tasks_task AS task
JOIN unnest(%(ids)s::text[], %(attempts)s::int[]) AS h(id, attempt) USING (id, attempt)
WHERE task.status = 'running' AND task.cancel_requested_at IS NOT NULL
"""
TOGETHER_SECONDS = 0.1  # cancels that come within it cost one query


@dataclass(slots=True)
class Held:
    """A task that this process runs. Times are of `time.monotonic`."""

    task_id: str
    attempt: int
    claimed: float
    lease_ends: float
    progress_by: float = float("inf")  # a call that hangs past it is not kept alive by the heartbeat
    cancelled: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)

    @property
    def gone(self) -> bool:
        """Whether this worker may no longer act for the task."""
        return self.lost.is_set() or time.monotonic() >= self.lease_ends

    def stopping(self) -> bool:
        """Whether a call that is under way should end early."""
        return self.gone or self.cancelled.is_set()


class Leases:
    """The leases of one process. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        self.draining = threading.Event()
        self._hurried: set[str] = set()
        self.hurried = threading.Event()

    def hold(self, task_id: str, attempt: int, asked: float) -> Held:
        """Keep the lease of a task just claimed; `asked` is the monotonic time before the claim was sent."""
        held = Held(task_id, attempt, asked, asked + settings.TASK_LEASE_SECONDS)
        with self._lock:
            self._held[task_id] = held
        return held

    def drop(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.task_id) is held:
                del self._held[held.task_id]

    def all(self) -> list[Held]:
        with self._lock:
            return sorted(self._held.values(), key=lambda held: held.task_id)

    def hurry(self, task_ids: list[str]) -> None:
        """Have `look_for_cancels` look when one of them is held here; returns at once."""
        with self._lock:
            mine = self._held.keys() & set(task_ids)
            self._hurried |= mine
        if mine:
            self.hurried.set()

    def look_for_cancels(self) -> None:
        """Look which of the tasks that `hurry` named were really asked to stop. One query."""
        self.hurried.clear()
        with self._lock:
            looked = [held for task_id in self._hurried if (held := self._held.get(task_id))]
            self._hurried.clear()
        if not looked:
            return
        try:
            asked = _query(ASKED_TO_STOP, looked)
        finally:
            connection.close()
        for held in looked:
            if held.task_id in asked:
                held.cancelled.set()

    def renew(self) -> None:
        """One heartbeat: renew every lease in one statement and learn who was cancelled or taken over.

        Commits. A row that was skipped because it is locked is looked at again, not taken for lost.
        """
        asked = time.monotonic()
        beating = [held for held in self.all() if not held.lost.is_set() and asked < held.progress_by]
        if not beating:
            return
        try:
            renewed = _query(RENEW, beating, lease=settings.TASK_LEASE_SECONDS)
            missing = [held for held in beating if held.task_id not in renewed]
            still = _query(STILL_HELD, missing) if missing else {}
        finally:
            connection.close()
        for held in beating:
            if held.task_id in renewed:
                held.lease_ends = asked + settings.TASK_LEASE_SECONDS
                if renewed[held.task_id]:
                    held.cancelled.set()
            elif held.task_id not in still:
                held.lost.set()


def _query(statement: str, helds: list[Held], **values: float) -> dict[str, bool]:
    ids: dict[str, Any] = {"ids": [held.task_id for held in helds], "attempts": [held.attempt for held in helds]}
    with connection.cursor() as cursor:
        cursor.execute(statement, ids | values)
        return {row[0]: bool(row[-1]) for row in cursor.fetchall()}


def beat_for_ever(leases: Leases, stop: threading.Event, also: Callable[[], None] = lambda: None) -> None:
    """Body of the heartbeat thread; a heartbeat that fails is tried again within a third of the interval."""
    wait = settings.TASK_HEARTBEAT_SECONDS
    while not stop.wait(wait):
        try:
            leases.renew()
            also()
            wait = settings.TASK_HEARTBEAT_SECONDS
        except (DatabaseError, InterfaceError) as error:
            wait = settings.TASK_HEARTBEAT_SECONDS / 3
            log.warning("heartbeat_failed", error=type(error).__name__)
        except Exception:
            log.exception("heartbeat_failed")


def listen_for_ever(leases: Leases, stop: threading.Event) -> None:
    """Body of the thread that looks for cancels when told; what it misses, the heartbeat brings."""
    while not stop.is_set():
        if not leases.hurried.wait(1.0):
            continue
        stop.wait(TOGETHER_SECONDS)
        try:
            leases.look_for_cancels()
        except (DatabaseError, InterfaceError) as error:
            log.warning("cancels_not_looked_for", error=type(error).__name__)
        except Exception:
            log.exception("cancels_not_looked_for")


LEASES = Leases()
