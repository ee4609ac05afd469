"""Run one task in this process and end. Workers start it for a task that workers died of."""
from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tasks.execution import execute
from tasks.leases import LEASES, beat_for_ever

PR_SET_PDEATHSIG = 1  # linux/prctl.h: this signal reaches us when the worker that started us dies


class Command(BaseCommand):
    help = "Run one task in this process and end."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_id")
        parser.add_argument("worker")

    def handle(self, *args: Any, **options: Any) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, lambda *_: LEASES.draining.set())
        stop = threading.Event()
        threading.Thread(target=beat_for_ever, args=(LEASES, stop), name="heartbeat", daemon=True).start()
        try:
            execute(options["task_id"], f"{options['worker']} alone:{os.getpid()}", alone=True)
        finally:
            stop.set()
