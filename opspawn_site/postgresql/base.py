"""The database backend: a pooled connection that lay idle is tried before it is handed out, one in use is not; and
a process may bound how long it waits for any answer.

With CONN_HEALTH_CHECKS each checkout costs a round trip and a transaction: a third of the statements of a task.
A connection that a restart of PostgreSQL cut has always lain idle for a moment, or fails a statement whose caller
looks again (the journal) or answers 503.
"""
from __future__ import annotations

import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base

IDLE_SECONDS = 1.0
TRY_SECONDS = 1.0  # for a connection that lay idle


class Silent(psycopg.OperationalError):
    """PostgreSQL did not answer in time: it is frozen, or the way to it is."""


class Connection(psycopg.Connection[Any]):
    """Waits for an answer no longer than it may. A server that is frozen keeps its sockets open: nothing else tells."""

    answer_seconds: float | None = None  # of the whole process, unless set on a connection; None waits for ever

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Raises Silent, with the connection closed, when the time is over."""
        try:
            return super().wait(gen, interval, timeout or self.answer_seconds)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise Silent(str(Silent.__doc__)) from None


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        if pool := self.settings_dict["OPTIONS"].get("pool"):
            pool["connection_class"] = Connection

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that answers: from the pool, those that do not are thrown away.

        Raises as the pool does, and Silent at the first that is met with silence: the others would be too.
        """
        while True:
            made = super().get_new_connection(conn_params)
            try:
                if _is_fresh(made) or _answers(made):
                    return made
            except Silent:
                self.pool.putconn(made)
                raise
            self.pool.putconn(made)  # closed by now: the pool replaces it

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.idle_since = time.monotonic()
        super()._close()  # type: ignore[misc]  # the stubs leave it out


def _is_fresh(made: Any) -> bool:
    """Whether it is new, or was in use a moment ago."""
    idle_since = getattr(made, "idle_since", None)
    return idle_since is None or time.monotonic() - idle_since < IDLE_SECONDS


def _answers(made: Any) -> bool:
    """Whether the server answers an empty query. Closes a connection that does not. Raises Silent."""
    made.answer_seconds = TRY_SECONDS
    try:
        made.execute("")
    except Silent:
        raise
    except psycopg.Error:
        made.close()
        return False
    finally:
        del made.answer_seconds
    return True
