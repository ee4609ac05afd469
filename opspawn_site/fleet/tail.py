"""A task's events as its stream brings them, through broken connections and restarted web processes."""
from __future__ import annotations

import queue
import threading
import time
from typing import Any

from opspawn_site.fleet.client import Client, Unreachable
from opspawn_site.fleet.errors import FleetError

AGAIN_SECONDS = 0.5  # after a stream has ended before its task; on this machine there is nobody to spare
PATIENCE_SECONDS = 60.0  # with an API that does not answer: its web process may be starting again
LIVE = "llm.delta"  # text of a model call under way: it has no number, and does not come again
FINAL = frozenset({"task.completed", "task.failed", "task.cancelled"})


class Tail:
    """Reads in a thread of its own, so that whoever follows can look after other things. Each event comes once."""

    def __init__(self, client: Client, task_id: str) -> None:
        self._client = client
        self._task_id = task_id
        self._after = 0
        self._found: queue.SimpleQueue[dict[str, Any] | FleetError] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="tail", daemon=True).start()

    def fresh(self) -> list[dict[str, Any]]:
        """What has come since the last time, at once. Raises FleetError when nothing more can come."""
        events: list[dict[str, Any]] = []
        while not self._found.empty():
            found = self._found.get()
            if isinstance(found, FleetError):
                raise found
            events.append(found)
        return events

    def _read(self) -> None:
        heard = time.monotonic()
        while True:
            try:
                for event in self._client.stream(self._task_id, self._after):
                    heard = time.monotonic()
                    if event is not None and self._is_last(event):
                        return
            except Unreachable as error:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    self._found.put(error)
                    return
            except FleetError as error:
                self._found.put(error)
                return
            time.sleep(AGAIN_SECONDS)

    def _is_last(self, event: dict[str, Any]) -> bool:
        if event["type"] == LIVE:
            self._found.put(event)
        elif event["seq"] > self._after:
            self._after = event["seq"]
            self._found.put(event)
        return event["type"] in FINAL
