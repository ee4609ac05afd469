"""The sweeper: finds what a death, a lost message or a closed door left behind. One thread in every worker."""
from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from kombu.exceptions import OperationalError
from psycopg import sql
from redis.exceptions import RedisError

from llm import accounts
from tasks import bell, budget_waits, cancelling, dependents, lifecycle, moves, removal, timers
from tasks.errors import TaskError
from tasks.journal import LET_GO
from tasks.models import Task
from tasks.moves import Change, Note
from tasks.states import EventType, Status
from tasks.workers import PRESENCE, forget_the_silent

BROKER_AWAY = (OperationalError, RedisError, OSError)
log = structlog.get_logger(__name__)

BATCH = 100
LATE_SECONDS = 0.1  # by which a timer may be late, so that no sweeper turns without rest
FORGET_SHARE = 0.01  # of the rounds: about every ten minutes

EXPIRED = """
SELECT id, attempt, takeovers, worker, queue FROM tasks_task
WHERE status = 'running' AND lease_until < clock_timestamp()
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""
UNANSWERED = """
UPDATE tasks_task SET rung_at = NULL
WHERE id IN (
    SELECT id FROM tasks_task
    WHERE queue = %s AND status = 'pending' AND rung_at < clock_timestamp() - make_interval(secs => %s)
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
) AND status = 'pending'
"""
STILL_EXPIRED = sql.SQL("lease_until < clock_timestamp()")


def sweep() -> None:
    """One round: expired leases go back to pending, timers that are due wake their tasks, bells nobody answered are
    rung again, what a death left between two tasks is settled, and who waits for a budget is looked at. Commits task
    by task.
    """
    try:
        recover_expired()
        timers.wake_due()
        settle_left_behind()
        budget_waits.sweep()
        for queue in settings.WORKER_QUEUES:
            unring_unanswered(queue)
    finally:
        connection.close()
    for queue in settings.WORKER_QUEUES:
        bell.nudge(queue)


def unring_unanswered(queue: str) -> None:
    """Take back bells that nobody answered: after TASK_REPUBLISH_SECONDS, or at once when the broker holds none.

    A Redis that came back empty has lost them all; workers hold no message back (prefetch is off), so that what
    is neither claimed nor in the broker after a round of the sweeper is lost. Queries once at most; commits.
    """
    waiting = settings.TASK_REPUBLISH_SECONDS
    if Task.objects.filter(queue=queue, status=Status.PENDING, rung_at__isnull=False).exists():
        with contextlib.suppress(*BROKER_AWAY):
            if bell.in_the_broker(queue) == 0:
                waiting = min(waiting, settings.TASK_SWEEP_SECONDS)
        with connection.cursor() as cursor:
            cursor.execute(UNANSWERED, [queue, waiting, BATCH])


def recover_expired() -> int:
    """Take back up to 100 tasks whose lease ran out and return how many. Two sweepers at once share the work."""
    with connection.cursor() as cursor:
        cursor.execute(EXPIRED, [BATCH])
        rows = cursor.fetchall()
    return sum(recover(*row[:4]) for row in rows)


def settle_left_behind() -> None:
    """Go on where a process died between the end of a task and what hangs on it."""
    cancelling.heed_all()
    blocked, children = dependents.left_behind()
    for task_id in blocked:
        if dependents.review(task_id):
            dependents.settle(task_id)
    for task_id in children:
        with contextlib.suppress(TaskError):
            lifecycle.cancel(task_id, by="sweeper")


def recover(task_id: str, attempt: int, takeovers: int, worker: str) -> bool:
    """Give an expired task back, or fail it as `worker_lost` after too many deaths without progress.

    One that was asked to be cancelled is cancelled instead, so that nobody makes another call for it.
    """
    data = {"worker": worker, "reason": "lease_expired", "takeovers": takeovers + 1}
    if takeovers >= settings.TASK_MAX_TAKEOVERS and _fail(task_id, attempt, takeovers + 1, data):
        dependents.settle(task_id)
        return True
    change = Change(
        to=Status.PENDING, attempt=attempt, only_if=(STILL_EXPIRED,), sources=frozenset({Status.RUNNING}),
        assign=LET_GO | {"takeovers": takeovers + 1}, notes=(Note(EventType.TASK_RECOVERED, data),),
    )  # fmt: skip
    recovered = moves.apply(task_id, change) is not None
    if recovered:
        log.warning("task_recovered", task_id=task_id, **data)
        accounts.release(task_id, attempt)
        cancelling.heed(task_id)
    return recovered


def _fail(task_id: str, attempt: int, deaths: int, data: dict[str, object]) -> bool:
    message = (
        f"The worker was lost {deaths} times while it ran this task, without progress in between "
        f"(TASK_MAX_TAKEOVERS is {settings.TASK_MAX_TAKEOVERS}). See the workers' logs, then retry it."
    )
    notes = (
        Note(EventType.TASK_RECOVERED, data),
        Note(EventType.TASK_FAILED, {"error_code": "worker_lost", "error_message": message}),
    )
    assign = LET_GO | {
        "takeovers": deaths, "error_code": "worker_lost", "error_message": message,
        "completed_at": sql.SQL("clock_timestamp()"),
    }  # fmt: skip
    conditions = (STILL_EXPIRED, sql.SQL("cancel_requested_at IS NULL"))
    change = Change(to=Status.FAILED, attempt=attempt, only_if=conditions, assign=assign, notes=notes)
    return moves.apply(task_id, change) is not None


def _next_timer() -> float:
    try:
        return timers.seconds_to_next()
    finally:
        connection.close()


def sweep_for_ever(stop: threading.Event) -> None:
    """Body of the sweeper thread. The interval is jittered by half, so that workers do not sweep in step; a timer
    that is due before its end makes it shorter.
    """
    timer = float("inf")
    while not stop.wait(min(settings.TASK_SWEEP_SECONDS * random.uniform(0.5, 1.5), timer + LATE_SECONDS)):
        timer = float("inf")
        try:
            sweep()
            timer = _next_timer()
            if random.random() < FORGET_SHARE:
                forget_the_silent()
                removal.prune_some()
            if PRESENCE.is_deaf():
                log.error("broker_is_silent", worker=PRESENCE.name)
                os.kill(os.getpid(), signal.SIGTERM)  # drains and ends; whoever supervises starts it anew
                return
        except (DatabaseError, InterfaceError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
        except Exception:
            log.exception("sweep_failed")
