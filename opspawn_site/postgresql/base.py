"""The database backend: a pooled connection that lay idle is tried before it is handed out, one in use is not.

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


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that answers: from the pool, those that do not are thrown away. Raises as the pool does."""
        while True:
            made = super().get_new_connection(conn_params)
            idle_since = getattr(made, "idle_since", None)  # a new connection has none
            if idle_since is None or time.monotonic() - idle_since < IDLE_SECONDS or _answers(made):
                return made
            self.pool.putconn(made)  # closed by now: the pool replaces it

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.idle_since = time.monotonic()
        super()._close()  # type: ignore[misc]  # the stubs leave it out


def _answers(made: Any) -> bool:
    """Whether the server answers an empty query. Closes a connection that does not."""
    try:
        made.execute("")
    except psycopg.Error:
        made.close()
        return False
    return True
