"""What a worker does with a task: claim it, assemble its agent, run the loop through the journal, finish it."""
from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from psycopg import sql
from psycopg.types.json import Jsonb

from agents.assembly import assemble
from agents.contract import AgentInvalid, Assembled, Observation, Outcome, Run, Turn
from agents.loop import run as run_loop
from agents.tools import registry
from llm import gateway
from llm.errors import ModelError
from llm.messages import ModelCall, Reply, ToolRequest, Usage
from llm.storable import clean
from tasks import bell, moves
from tasks.journal import Cancelled, Fenced, Journal, Nondeterminism, Released
from tasks.leases import LEASES, Held
from tasks.models import Step, Task
from tasks.moves import Change, Note
from tasks.replay import reply_of, summary_of_call, summary_of_reply
from tasks.states import EventType, Status, StepKind, StepStatus

log = structlog.get_logger(__name__)

GRACE_SECONDS = 10.0  # a call may overrun its own timeout by this much before the heartbeat lets the lease go


def execute(task_id: str, worker: str) -> None:
    """Claim the task and run it to its end, to a wait or to a release. Returns when it is not to be had."""
    if LEASES.draining.is_set():
        return
    asked = time.monotonic()
    task = claim(task_id, worker)
    if task is None:
        return
    held = LEASES.hold(task.id, task.attempt, asked)
    try:
        with structlog.contextvars.bound_contextvars(task_id=task.id, attempt=task.attempt):
            _run_held(task, held)
    finally:
        LEASES.drop(held)
        connection.close()
        bell.nudge(task.queue)


def claim(task_id: str, worker: str) -> Task | None:
    """`pending → running` in one UPDATE: the attempt goes up, the lease starts. None: not mine. Commits."""
    change = Change(
        to=Status.RUNNING,
        sources=frozenset({Status.PENDING}),
        only_if=(sql.SQL("(scheduled_at IS NULL OR scheduled_at <= clock_timestamp())"),),
        assign={
            "attempt": sql.SQL("attempt + 1"),
            "worker": worker[:200],
            "claimed_at": sql.SQL("clock_timestamp()"),
            "started_at": sql.SQL("coalesce(started_at, clock_timestamp())"),
            "lease_until": sql.SQL("clock_timestamp() + make_interval(secs => {})").format(
                sql.Literal(settings.TASK_LEASE_SECONDS)
            ),
            "rung_at": None,
        },
        notes=(Note(EventType.TASK_STARTED, {"worker": worker[:200]}),),
    )
    if moves.apply(task_id, change) is None:
        return None
    return Task.objects.select_related("version__agent").get(id=task_id)


def _run_held(task: Task, held: Held) -> None:
    try:
        journal = Journal(held, list(Step.objects.filter(task=task).order_by("seq")))
        connection.close()
        try:
            _finish(journal, _outcome(task, held, journal))
        except Cancelled:
            journal.finish(Status.CANCELLED, note=Note(EventType.TASK_CANCELLED, {"while": "running"}))
        except Released:
            journal.release()
            log.info("task_released")
    except Fenced:
        log.warning("task_fenced")
    except (OperationalError, InterfaceError) as error:
        log.warning("task_left_to_the_sweeper", error=type(error).__name__)


def _outcome(task: Task, held: Held, journal: Journal) -> Outcome:
    """Run the agent; whatever it did not foresee is an `internal_error`, logged with its traceback."""
    try:
        agent = assemble(task.version.agent.slug, task.version.config, task.overrides, task.limits, task.input_data)
        return run_loop(Attendance(task, held, journal, agent).as_run())
    except AgentInvalid as error:
        return Outcome.failed("invalid_agent_config", str(error))
    except Nondeterminism as error:
        return Outcome.failed("nondeterminism", str(error))
    except (Fenced, Cancelled, Released, OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("task_failed_unexpectedly")
        return Outcome.failed(
            "internal_error",
            f"The worker met an unexpected {type(error).__name__}; its log has the details under this task's id.",
        )


def _finish(journal: Journal, outcome: Outcome) -> None:
    if outcome.status == "completed":
        note = Note(EventType.TASK_COMPLETED)
        result = Jsonb({"agent_outcome": outcome.answer}, dumps=moves.storable_json)
        journal.finish(Status.COMPLETED, note=note, result=result)
        return
    note = Note(EventType.TASK_FAILED, {"error_code": outcome.error_code, "error_message": outcome.detail})
    journal.finish(Status.FAILED, note=note, error_code=outcome.error_code, error_message=clean(outcome.detail))
    log.info("task_failed", error_code=outcome.error_code)


class Attendance:
    """The two doors of one run, journaled: a model call and a tool call."""

    def __init__(self, task: Task, held: Held, journal: Journal, agent: Assembled) -> None:
        self._held = held
        self._journal = journal
        self._agent = agent
        self._allowed = frozenset(spec.name for spec in agent.tools)
        self._seconds = agent.limits.timeout_seconds - task.running_seconds
        self._tried = 0

    def as_run(self) -> Run:
        agent = self._agent
        return Run(
            planner=agent.planner, opening=agent.opening, tools=agent.tools, ask=self.ask, act=self.act,
            limits=agent.limits, seconds_left=self.seconds_left, check=self._journal.check,
            max_output_tokens=agent.settings.max_output_tokens,
        )  # fmt: skip

    def seconds_left(self) -> float:
        """Running time that the task has left, over all its attempts."""
        return self._seconds - (time.monotonic() - self._held.claimed)

    def ask(self, turn: Turn) -> Reply:
        """One model call, or its recorded reply. Raises ModelError when it failed for good, or Stopped."""
        given = {"messages": [message.to_json() for message in turn.fresh]}
        settled = self._journal.replay(StepKind.LLM, self._agent.settings.model, given)
        if settled is not None:
            self._tried += len(settled.attempts)
            return reply_of(settled)
        self._journal.begin(
            StepKind.LLM, self._agent.settings.model, given, progress_seconds=turn.seconds_left + GRACE_SECONDS
        )
        try:
            reply = gateway.complete(
                self._call(turn), on_retry=self._journal.retrying, should_stop=self._held.stopping
            )
        except ModelError as error:
            self._model_failed(error)
            raise
        self._tried += len(reply.attempts)
        self._journal.end(
            StepStatus.DONE, summary=summary_of_reply(reply), model=reply.model,
            output=_output_of(reply), **_costs(reply.usage, reply.attempts, reply.simulated),
        )  # fmt: skip
        return reply

    def act(self, request: ToolRequest, seconds_left: float) -> Observation:
        """One tool call, or its recorded observation. Raises Stopped."""
        settled = self._journal.replay(StepKind.TOOL, request.name, request.arguments)
        if settled is not None:
            return Observation(settled.output, settled.error or "", registry.text_of(settled.output, settled.error))
        self._journal.begin(
            StepKind.TOOL, request.name, request.arguments,
            progress_seconds=seconds_left + GRACE_SECONDS, call_id=request.id,
        )  # fmt: skip
        seen = registry.act(request, self._allowed, seconds_left)
        self._journal.end(
            StepStatus.FAILED if seen.failed else StepStatus.DONE,
            summary=summary_of_call(request, seen), output=seen.output, error=seen.error or None,
        )  # fmt: skip
        return seen

    def _call(self, turn: Turn) -> ModelCall:
        return ModelCall(
            settings=replace(self._agent.settings, max_output_tokens=turn.max_output_tokens),
            messages=turn.messages, tools=turn.tools, tried=self._tried, seconds_left=turn.seconds_left,
        )  # fmt: skip

    def _model_failed(self, error: ModelError) -> None:
        """Journal the failed call, with what was billed; a cancel or a lost lease comes before its error."""
        self._journal.end(
            StepStatus.FAILED, summary=str(error)[:200], error=str(error),
            **_costs(error.usage, error.attempts, error.simulated),
        )  # fmt: skip
        self._journal.check_stopped()


def _output_of(reply: Reply) -> dict[str, Any]:
    calls = [request.to_json() for request in reply.tool_requests]
    return {"text": reply.text, "tool_calls": calls, "finish_reason": reply.finish_reason}


def _costs(usage: Usage, attempts: Any, simulated: bool) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": None if usage.cost_usd is None else format(usage.cost_usd, "f"),
        "attempts": [attempt.to_json() for attempt in attempts],
        "simulated": simulated,
    }
