"""A suspect is run in a process of its own: when it kills its process, no neighbour dies with it."""
from __future__ import annotations

import subprocess
import sys

import structlog
from django.conf import settings

from tasks.leases import LEASES

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.2
COMMAND = "run_task_alone"


def run_alone(task_id: str, worker: str) -> int:
    """Run the task in a child process and return its exit code. Blocks; a drain is handed on to the child."""
    log.warning("task_tried_alone", task_id=task_id)
    command = [sys.executable, "-m", "django", COMMAND, task_id, worker]
    told = False
    with subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL) as child:
        while True:
            try:
                return child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if LEASES.draining.is_set() and not told:
                    told = True
                    child.terminate()
