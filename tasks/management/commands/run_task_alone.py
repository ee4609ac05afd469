"""Run one task in this process and end. Workers start it for a task that workers died of."""
from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tasks.execution import execute_claimed
from tasks.leases import LEASES, beat_for_ever
from tasks.models import Task

PR_SET_PDEATHSIG = 1  # linux/prctl.h: this signal reaches us when the worker that started us dies


class Command(BaseCommand):
    help = "Run one claimed task in this process and end."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_id")
        parser.add_argument("attempt", type=int)
        parser.add_argument("parent", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != options["parent"]:  # it died while this process started: the sweeper has the task
            return
        signal.signal(signal.SIGTERM, lambda *_: LEASES.draining.set())
        task_id, stop = options["task_id"], threading.Event()

        def leave_when_cleared() -> None:
            """It made progress, so it is no suspect any more: back among the others at its next step boundary."""
            if Task.objects.filter(id=task_id, takeovers=0).exists():
                LEASES.draining.set()

        beat = (LEASES, stop, leave_when_cleared)
        threading.Thread(target=beat_for_ever, args=beat, name="heartbeat", daemon=True).start()
        try:
            execute_claimed(task_id, options["attempt"])
        finally:
            stop.set()
