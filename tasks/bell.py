"""The doorbell: tells a worker, through Celery, that a task can be claimed. The row is the truth; this is a hint.

`nudge` never blocks and never fails: one thread per process picks the best runnable rows, marks them as rung
and publishes. Whatever is lost on the way is found by the sweeper. `hurry` in the same way tells all workers that
tasks were asked to stop; what is lost of that is found by the heartbeat.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils.module_loading import import_string

from tasks.order import take_next

log = structlog.get_logger(__name__)

RUN_TASK = "tasks.run_task"
LOOK_FOR_CANCELS = "look_for_cancels"  # a control command of Celery's workers
HURRY_SECONDS = 30  # older ones are not worth reading
HURRY_AT_ONCE = 1000

UNRING = "UPDATE tasks_task SET rung_at = NULL WHERE id = ANY(%s) AND status = 'pending'"


class Bell(NamedTuple):
    """A task to be announced, with what Flower may show of it."""

    task_id: str
    name: str
    slug: str
    version: int

    @property
    def label(self) -> str:
        shown = f"task={self.task_id} agent={self.slug}@{self.version}"
        return f"{shown} name={self.name}" if self.name else shown


class Ringer:
    """One daemon thread that answers nudges; several nudges in a row are one round."""

    def __init__(self) -> None:
        self._queues: set[str] = set()
        self._hurried: set[str] = set()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None

    def nudge(self, queue: str) -> None:
        """Ask for a round on that queue; returns at once."""
        with self._condition:
            self._queues.add(queue)
            self._wake()

    def hurry(self, task_id: str) -> None:
        """Ask that the workers be told about this task; returns at once."""
        with self._condition:
            if len(self._hurried) < HURRY_AT_ONCE:
                self._hurried.add(task_id)
            self._wake()

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._loop, name="ringer", daemon=True)
            self._thread.start()
        self._condition.notify()

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not self._queues and not self._hurried:
                    self._condition.wait()
                queues, self._queues = self._queues, set()
                hurried, self._hurried = self._hurried, set()
            if hurried:
                self._try(lambda: tell_workers(sorted(hurried)), told="hurry")  # noqa: B023 - called at once
            for queue in sorted(queues):
                self._try(lambda: ring(queue), told=queue)  # noqa: B023 - called at once

    def _try(self, act: Callable[[], object], *, told: str) -> None:
        try:
            act()
        except Exception as error:  # a hint: the sweeper rings what is left, the heartbeat brings the cancel
            log.warning("bell_failed", queue=told, error=type(error).__name__)


RINGER = Ringer()


def nudge(queue: str) -> None:
    """Have this process ring the best runnable tasks of the queue soon. Never blocks, queries or raises."""
    RINGER.nudge(queue)


def hurry(task_id: str) -> None:
    """Have the workers told soon that this task is to stop. Never blocks, queries or raises."""
    RINGER.hurry(task_id)


def tell_workers(task_ids: list[str]) -> None:
    """Broadcast that these tasks were asked to stop; bounded by the broker's socket timeouts, without retry.

    As `celery.app.control.broadcast` words it, which would try again for as long as the broker is away.
    """
    application = _celery()
    exchange = application.control.mailbox.exchange
    message = {
        "method": LOOK_FOR_CANCELS, "arguments": {"task_ids": task_ids}, "destination": None, "pattern": None,
        "matcher": None,
    }  # fmt: skip
    with application.producer_or_acquire() as producer:
        producer.publish(
            message, exchange=exchange.name, declare=[exchange], serializer="json", retry=False,
            headers={"clock": application.clock.forward(), "expires": time.time() + HURRY_SECONDS},
        )  # fmt: skip


def ring(queue: str) -> int:
    """Mark the best runnable tasks as rung, publish their bells and return how many. Queries and publishes.

    A bell that cannot be published is unmarked, so that the next round takes it again.
    """
    try:
        bells = [Bell(*row) for row in take_next(queue)]
    finally:
        connection.close()
    for place, bell in enumerate(bells):
        try:
            publish(queue, bell)
        except Exception:
            unmark([bell.task_id for bell in bells[place:]])
            raise
    return len(bells)


def publish(queue: str, bell: Bell) -> None:
    """Send one bell; bounded by the broker's socket timeouts, without retry."""
    _celery().send_task(
        RUN_TASK, args=[bell.task_id], queue=queue, argsrepr=bell.label, kwargsrepr="{}",
        ignore_result=True, retry=False,
    )  # fmt: skip


def in_the_broker(queue: str) -> int:
    """How many messages lie in the queue. Asks the broker; raises what it raises when it is away."""
    with _celery().connection_for_read() as broker:
        return int(broker.default_channel.client.llen(queue))


@cache
def _celery() -> Any:
    return import_string(settings.CELERY_APPLICATION)


def unmark(task_ids: list[str]) -> None:
    """Take back that these tasks were rung, so that the next round rings them anew. Never raises."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(UNRING, [task_ids])
    except (DatabaseError, InterfaceError):
        log.warning("bell_not_unmarked", count=len(task_ids))  # rung again after TASK_REPUBLISH_SECONDS
    finally:
        connection.close()
