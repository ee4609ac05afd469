"""The Celery jobs: the doorbell's answer, and maintenance. And what each worker process runs beside them."""
from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import asdict
from typing import Any

import structlog
from celery import Task as Job
from celery import shared_task
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from llm import credentials, gateway, trial
from tasks import bell
from tasks.execution import execute
from tasks.leases import LEASES, beat_for_ever, listen_for_ever
from tasks.sweep import sweep_for_ever
from tasks.trials import TRY_PROVIDER
from tasks.workers import PRESENCE

log = structlog.get_logger(__name__)

STOP = threading.Event()


@shared_task(bind=True, name=bell.RUN_TASK, ignore_result=True, acks_late=False, max_retries=0)
def run_task(self: Job, task_id: str) -> None:
    """Answer a bell: claim the task and run it, or return when it is not to be had."""
    PRESENCE.heard = time.monotonic()
    execute(task_id, f"{self.request.hostname or socket.gethostname()}:{os.getpid()}")


@shared_task(bind=True, name="tasks.fleet_check", acks_late=False, max_retries=0)
def fleet_check(self: Job) -> dict[str, Any]:
    """Answer with this worker's name, version, queues, slots in use, latencies in milliseconds, and the
    variables that provider rows name and this process does not have."""
    delivery = self.request.delivery_info or {}
    return {
        "worker": self.request.hostname,
        "pid": os.getpid(),
        "version": settings.VERSION,
        "queue": delivery.get("routing_key"),
        "queues": settings.WORKER_QUEUES,
        "running": len(LEASES.all()),
        "slots": settings.WORKER_CONCURRENCY,
        "database_ms": _milliseconds(_ask_database),
        "redis_ms": _milliseconds(lambda: _ask_redis(self)),
        "variables_missing": credentials.missing_variables(),
    }


@shared_task(name=TRY_PROVIDER, acks_late=False, max_retries=0)
def try_provider(label: str, model: str) -> dict[str, Any]:
    """Make one small call with a provider row's key; what came of it is kept in the row and answered."""
    try:
        return asdict(trial.run(label, model))
    finally:
        connection.close()


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_redis(job: Job) -> None:
    with job.app.connection_for_read() as broker:
        channel: Any = broker.default_channel
        channel.client.ping()


def _milliseconds(ask: Any) -> float:
    started = time.perf_counter()
    ask()
    return round((time.perf_counter() - started) * 1000, 2)


@worker_init.connect
def learn_commands(**_: Any) -> None:
    """Celery's worker is imported here and not above: web processes import this module too."""
    from celery.worker.control import control_command

    @control_command(name=bell.LOOK_FOR_CANCELS)
    def look_for_cancels(state: Any, task_ids: list[str]) -> None:
        LEASES.hurry(task_ids)


@worker_ready.connect
def start_threads(sender: Any, **_: Any) -> None:
    """The heartbeat and the sweeper run in every worker process; nobody has to run beat."""
    STOP.clear()
    LEASES.draining.clear()
    PRESENCE.begin(sender.hostname, [queue.name for queue in sender.task_consumer.queues])
    PRESENCE.announce()
    beat = (LEASES, STOP, PRESENCE.announce)
    threading.Thread(target=beat_for_ever, args=beat, name="heartbeat", daemon=True).start()
    threading.Thread(target=listen_for_ever, args=(LEASES, STOP), name="listener", daemon=True).start()
    threading.Thread(target=sweep_for_ever, args=(STOP,), name="sweeper", daemon=True).start()
    if any(settings.PROVIDER_KEYS.values()):  # else it would cost 190 MB that the scripted model never needs
        threading.Thread(target=gateway.warm_up, name="warm-up", daemon=True).start()
    for queue in settings.WORKER_QUEUES:
        bell.nudge(queue)


@worker_shutting_down.connect
def start_draining(**_: Any) -> None:
    """On SIGTERM: claim nothing more, hand each task back at its next step boundary; leases are still renewed."""
    LEASES.draining.set()
    log.info("worker_draining", running=len(LEASES.all()))


@worker_shutdown.connect
def stop_threads(**_: Any) -> None:
    STOP.set()
    with contextlib.suppress(DatabaseError, InterfaceError):
        PRESENCE.leave()
