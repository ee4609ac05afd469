"""Waiting for the end of tasks: one query per tick for all that are waited for, no thread and no connection each."""
from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog
from django.db import Error, connection

from tasks.models import Task
from tasks.states import FINAL

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.2
HOLD = "opspawn.hold"
"""Key of the request's environ. A view may put an async callable there beside its answer: the server then awaits
it, drops that answer and asks the view once more."""


class Watch:
    """Those who wait, by task; one poller on the running event loop while there are any."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def until_final(self, task_id: str, seconds: float) -> None:
        """Return when the task is final or gone, or when the time is over."""
        ended = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(ended)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[task_id].discard(ended)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _poll(self) -> None:
        while self._waiting:
            try:
                gone = await asyncio.to_thread(ended_of, tuple(self._waiting))
            except Error as error:  # who waits is answered by the view when the time is over
                log.warning("watch_cannot_look", error=type(error).__name__)
                gone = set()
            for task_id in gone:
                for ended in self._waiting.get(task_id, ()):
                    ended.set()
            await asyncio.sleep(TICK_SECONDS)


WATCH = Watch()


def ended_of(task_ids: Collection[str]) -> set[str]:
    """Those of the tasks that are final or do not exist. One query; the connection is handed back."""
    try:
        alive = Task.objects.filter(id__in=task_ids).exclude(status__in=FINAL).values_list("id", flat=True)
        return set(task_ids) - set(alive)
    finally:
        connection.close()
