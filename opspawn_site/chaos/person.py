"""The person: looks into the ledger what became of an interrupted `once` call, and says so."""
from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg

from opspawn_site.chaos.ledger import Ledger

# Whoever answers has to be sure that the lost worker cannot act any more: no call of the plan takes so long.
PATIENCE_SECONDS = 3.0

UNKNOWN = """
SELECT task.id, step.seq FROM tasks_task AS task JOIN tasks_step AS step ON step.task_id = task.id
WHERE task.status = 'waiting' AND task.waiting_on = 'input' AND step.status = 'unknown'
    AND task.updated_at < clock_timestamp() - make_interval(secs => %s)
ORDER BY task.id
"""


class Person:
    """`answers` counts what was said: `happened` or `again`."""

    def __init__(self, database_url: str, ledger: Ledger) -> None:
        self.answers: Counter[str] = Counter()
        self._database_url = database_url
        self._ledger = ledger

    def look(self) -> None:
        """Answer every question that is old enough. Queries and commits; does nothing while PostgreSQL is away."""
        try:
            with psycopg.connect(self._database_url, connect_timeout=2) as database:
                asked = database.execute(UNKNOWN, [PATIENCE_SECONDS]).fetchall()
        except psycopg.Error:
            return
        did = {entry.key for entry in self._ledger.entries() if entry.mark == "did"} if asked else set()
        for task_id, seq in asked:
            key = f"{task_id}:{seq}"
            self._answer(task_id, "happened" if key in did else "again", key)

    def _answer(self, task_id: str, how: str, key: str) -> None:
        from django.db import DatabaseError, connection

        from tasks import resuming
        from tasks.errors import TaskError

        result: Any = key if how == "happened" else None
        try:
            resuming.resolve(task_id, how, by="chaos", result=result)
            self.answers[how] += 1
        except (DatabaseError, TaskError):  # cancelled meanwhile, or PostgreSQL went away: the next look sees
            pass
        finally:
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]
