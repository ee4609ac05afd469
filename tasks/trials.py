"""Asks a worker to try a provider row, and waits a bounded time for what it says."""
from __future__ import annotations

from typing import Any

import structlog
from celery.exceptions import TimeoutError as NoAnswer
from django.conf import settings
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError as BrokerAway

from llm import trial
from tasks.workers import roll_call

log = structlog.get_logger(__name__)

TRY_PROVIDER = "tasks.try_provider"
QUEUE = "default"  # some worker serves it
SECONDS = trial.SECONDS + 5
NO_WORKER = "No worker is running to make the call: start one with ./opspawn up, or see its log."
NO_ANSWER = (
    f"No worker answered within {SECONDS:g} s: all slots may be taken, or the worker is lost. Look at Workers, then "
    "try again."
)
FAILED = "The worker could not finish the job; Job results in the admin, and its log, say why."
NO_BROKER = "The job could not be sent to a worker: Redis does not answer. ./opspawn doctor says why."


def ask_worker(label: str, model: str) -> dict[str, Any]:
    """`{"ok", "latency_ms", "error", "model", "at"}` of one small call of `provider/name` with the row's key.

    Blocks for at most SECONDS. Where no worker made the call, `latency_ms` is None and `error` says what to do.
    """
    if not any(worker.live for worker in roll_call()):  # type: ignore[attr-defined]
        return _unasked(model, NO_WORKER)
    application = import_string(settings.CELERY_APPLICATION)
    try:
        job = application.send_task(TRY_PROVIDER, args=[label, model], queue=QUEUE, expires=SECONDS, retry=False)
        answer = job.get(timeout=SECONDS, interval=0.05, propagate=False)
    except NoAnswer:
        return _unasked(model, NO_ANSWER)
    except BrokerAway:
        log.warning("trial_not_sent", credential=label)
        return _unasked(model, NO_BROKER)
    return answer if isinstance(answer, dict) else _unasked(model, FAILED)


def _unasked(model: str, error: str) -> dict[str, Any]:
    return {"ok": False, "latency_ms": None, "error": error, "model": model, "at": None}
