"""Run suspects one after the other, as a worker names them on standard input. Workers start it; see `tasks.alone`."""
from __future__ import annotations

import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

import structlog
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from tasks.alone import RAN, READY, STOP
from tasks.execution import execute_claimed
from tasks.leases import LEASES, beat_for_ever
from tasks.models import Task

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Run suspects, one at a time, as standard input names them. Started by workers."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker says what to do
        self.current, self.stopping = "", threading.Event()
        self.asked: SimpleQueue[str] = SimpleQueue()
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed goes to the worker's log
        beat = (LEASES, threading.Event(), self.leave_when_cleared)
        threading.Thread(target=beat_for_ever, args=beat, name="heartbeat", daemon=True).start()
        threading.Thread(target=self.listen, name="listener", daemon=True).start()
        print(READY, file=answers, flush=True)
        while True:
            self.run(*self.asked.get().split())
            print(RAN, file=answers, flush=True)

    def run(self, task_id: str, attempt: str) -> None:
        if not self.stopping.is_set():
            LEASES.draining.clear()
        self.current = task_id
        try:
            execute_claimed(task_id, int(attempt))
        except (DatabaseError, InterfaceError) as error:
            log.warning("task_left_to_the_sweeper", task_id=task_id, error=type(error).__name__)
        finally:
            self.current = ""

    def listen(self) -> None:
        """Hand on what the worker says. When it is gone this process ends at once: it may not outlive its worker."""
        for line in sys.stdin:
            if line.strip() == STOP:
                self.stop()
            else:
                self.asked.put(line)
        os._exit(0)

    def stop(self) -> None:
        self.stopping.set()
        LEASES.draining.set()

    def leave_when_cleared(self) -> None:
        """It made progress, so it is no suspect any more: back among the others at its next step boundary."""
        try:
            if self.current and Task.objects.filter(id=self.current, takeovers=0).exists():
                LEASES.draining.set()
        finally:
            connection.close()
