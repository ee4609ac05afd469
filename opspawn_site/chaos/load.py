"""The consumer: submits the plan over REST while faults go on, each task again and again until it is accepted."""
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from opspawn_site.chaos.plan import Asked, body_of
from opspawn_site.fleet.client import Client, Unreachable
from opspawn_site.fleet.errors import FleetError

AGAIN_SECONDS = 0.3


class Load:
    """One thread. `accepted` maps the numbers of the plan to the ids that were answered with 201."""

    def __init__(self, client: Client, planned: Sequence[Asked]) -> None:
        self.accepted: dict[int, str] = {}
        self.refusals: list[str] = []  # answers that are neither success nor "try again"
        self.seconds: list[float] = []  # of each request that was answered with 201
        self.tries = 0
        self._client = client
        self._planned = planned
        self._cancels: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        for asked in self._planned:
            while (wait := self._began + asked.at - time.monotonic()) > 0:
                self._cancel_due()
                if self._stop.wait(min(wait, 0.05)):
                    return
            self._submit(asked)
            self._cancel_due()
        while self._cancels and not self._stop.wait(0.05):
            self._cancel_due()

    def _submit(self, asked: Asked) -> None:
        body = body_of(asked, self.accepted)
        while not self._stop.is_set():
            began = time.monotonic()
            self.tries += 1
            try:
                task = self._client.submit(body, idempotency_key=f"chaos-{asked.number}")
            except FleetError as error:
                if not isinstance(error, Unreachable):
                    self.refusals.append(f"{asked.name}: {error}")
                self._stop.wait(AGAIN_SECONDS)
                continue
            self.seconds.append(time.monotonic() - began)
            self._note(asked, task)
            return

    def _note(self, asked: Asked, task: dict[str, Any]) -> None:
        self.accepted[asked.number] = task["task_id"]
        if asked.cancel_after is not None:
            self._cancels.append((time.monotonic() + asked.cancel_after, task["task_id"]))

    def _cancel_due(self) -> None:
        """Ask for each cancel whose time has come, once: one that is not answered is a cancel that came too late."""
        due = [one for one in self._cancels if one[0] <= time.monotonic()]
        for one in due:
            self._cancels.remove(one)
            with contextlib.suppress(FleetError):
                self._client.cancel(one[1])
