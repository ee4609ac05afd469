"""A reader of event streams for tests: what came, in a thread of its own."""
from __future__ import annotations

import json
import re
import socket
import threading
from typing import Any, NamedTuple

import httpx

from tasks import moves
from tasks.models import Event
from tasks.moves import Change, Note
from tasks.states import EventType


class Received(NamedTuple):
    seq: int
    type: str
    data: str


class Reading:
    """One open stream. `ended` says how it did: "closed" by the server, "broken", or None."""

    def __init__(self, address: str, token: str, task_id: str, after: int | None = None, **headers: str) -> None:
        self.events: list[Received] = []
        self.comments = 0
        self.text = ""
        self.ended: str | None = None
        self.status: int | None = None
        self.headers = httpx.Headers()
        self._url = f"{address}/api/v1/tasks/{task_id}/stream/"
        self._headers = {"Authorization": f"Bearer {token}", **headers}
        if after is not None:
            self._headers["Last-Event-ID"] = str(after)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    def leave(self) -> None:
        """Close the connection from this side."""
        self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _read(self) -> None:
        try:
            with httpx.stream("GET", self._url, headers=self._headers, timeout=40) as response:
                self._response, self.headers, self.status = response, response.headers, response.status_code
                for text in response.iter_text():
                    self.text += text
                    self._parse()
            self.ended = "closed"
        except Exception:
            self.ended = "broken"

    def _parse(self) -> None:
        *blocks, self._rest = self.text.split("\n\n")
        self.comments = sum(block.startswith(":") for block in blocks)
        self.events = [
            Received(int(found[1]), found[2], found[3])
            for block in blocks
            if (found := re.fullmatch(r"id: (\d+)\nevent: (\S+)\ndata: (.*)", block))
        ]


def note(task_id: str, count: int = 1, **data: Any) -> None:
    """Write so many events of a live task, each with a commit of its own."""
    for _ in range(count):
        assert moves.apply(task_id, Change(notes=(Note(EventType.STEP_RETRYING, data),)))


def stored(task_id: str) -> list[tuple[int, str]]:
    return list(Event.objects.filter(task_id=task_id).order_by("seq").values_list("seq", "type"))


def shown(address: str, token: str, task_id: str) -> list[dict[str, Any]]:
    """What `/events/` says."""
    url = f"{address}/api/v1/tasks/{task_id}/events/?limit=200"
    found: list[dict[str, Any]] = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()["data"]
    return found


def told(reading: Reading) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in reading.events]
