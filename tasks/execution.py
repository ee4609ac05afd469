"""What a worker does with a task: claim it, assemble its agent, run the loop through the journal, finish it."""
from __future__ import annotations

import time

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from psycopg.types.json import Jsonb

from agents.assembly import assemble
from agents.contract import AgentInvalid, Outcome
from agents.loop import run as run_loop
from llm.storable import clean
from tasks import bell, dependents, moves
from tasks.alone import run_alone
from tasks.attendance import Attendance
from tasks.claims import claim, claimed, is_suspect
from tasks.journal import Journal
from tasks.leases import LEASES, Held
from tasks.models import Step, Task
from tasks.moves import Note
from tasks.parking import Parked
from tasks.states import EventType, Status
from tasks.stops import Cancelled, Fenced, Nondeterminism, Released, Stopped

log = structlog.get_logger(__name__)

AWAY = (OperationalError, InterfaceError)


def execute(task_id: str, worker: str) -> None:
    """Claim the task and run it to its end, to a wait or to a release. Returns when it is not to be had."""
    if LEASES.draining.is_set():
        bell.unmark([task_id])
        return
    asked = time.monotonic()
    task = claim(task_id, worker)
    if task is not None:
        _hold_and_run(task, asked)
    elif is_suspect(task_id):
        connection.close()
        run_alone(task_id, worker)


def execute_claimed(task_id: str, attempt: int) -> None:
    """Run a task that another process claimed for this one. Returns at once when it was taken over meanwhile."""
    asked = time.monotonic()
    task = claimed(task_id)
    if task is not None and task.attempt == attempt:
        _hold_and_run(task, asked, renew=True)


def _hold_and_run(task: Task, asked: float, *, renew: bool = False) -> None:
    held = LEASES.hold(task.id, task.attempt, asked)
    try:
        if renew:  # the lease began when the other process claimed: this process's own count begins now
            LEASES.renew()
        with structlog.contextvars.bound_contextvars(task_id=task.id, attempt=task.attempt):
            _run_held(task, held)
    finally:
        LEASES.drop(held)
        connection.close()
        bell.nudge(task.queue)


def _run_held(task: Task, held: Held) -> None:
    try:
        journal = Journal(held, _recorded(task))
        _run_journaled(task, held, journal)
        if journal.depended_on:
            dependents.settle(task.id)
    except Released:
        log.info("task_released")
    except Fenced:
        log.warning("task_fenced")
    except AWAY as error:
        log.warning("task_left_to_the_sweeper", error=type(error).__name__)


def _recorded(task: Task) -> list[Step]:
    """The steps of earlier attempts, in their order. Hands the connection back."""
    try:
        return list(Step.objects.filter(task=task).order_by("seq")) if task.attempt > 1 else []
    finally:
        connection.close()


def _run_journaled(task: Task, held: Held, journal: Journal) -> None:
    """Run and write the end. Raises Released once the task is handed back, and Fenced."""
    try:
        _finish(journal, _outcome(task, held, journal))
    except Cancelled:
        journal.finish(Status.CANCELLED, note=Note(EventType.TASK_CANCELLED, {"while": "running"}))
    except Parked as parked:
        journal.park(parked)
        log.info("task_waits", waiting_on=parked.waiting_on.value, detail=str(parked))
    except Released:
        journal.release()
        raise
    except AWAY:
        raise
    except (DatabaseError, ValueError) as error:  # a value that PostgreSQL refuses, in a result or an answer
        log.exception("task_cannot_be_stored")
        journal.drop_values()
        _finish(journal, _unforeseen(error))


def _outcome(task: Task, held: Held, journal: Journal) -> Outcome:
    """Run the agent; whatever it did not foresee is an `internal_error`, logged with its traceback."""
    try:
        agent = assemble(task.version.agent.slug, task.version.config, task.overrides, task.limits, task.input_data)
        return run_loop(Attendance(task, held, journal, agent).as_run())
    except AgentInvalid as error:
        return Outcome.failed("invalid_agent_config", str(error))
    except Nondeterminism as error:
        return Outcome.failed("nondeterminism", str(error))
    except (Stopped, Parked, DatabaseError, InterfaceError):
        raise
    except Exception as error:
        log.exception("task_failed_unexpectedly")
        return _unforeseen(error)


def _unforeseen(error: Exception) -> Outcome:
    told = f"The worker met an unexpected {type(error).__name__}; its log has the details under this task's id."
    return Outcome.failed("internal_error", told)


def _finish(journal: Journal, outcome: Outcome) -> None:
    if outcome.status == "completed":
        note = Note(EventType.TASK_COMPLETED)
        result = Jsonb({"agent_outcome": outcome.answer}, dumps=moves.storable_json)
        journal.finish(Status.COMPLETED, note=note, result=result)
        return
    note = Note(EventType.TASK_FAILED, {"error_code": outcome.error_code, "error_message": outcome.detail})
    journal.finish(Status.FAILED, note=note, error_code=outcome.error_code, error_message=clean(outcome.detail))
    log.info("task_failed", error_code=outcome.error_code)
