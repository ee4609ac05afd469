"""The two doors of one run, journaled: a model call and a tool call, each replayed when an earlier attempt made it."""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.conf import settings

from agents.contract import Assembled, Observation, Run, Turn
from agents.tools import registry
from llm import gateway
from llm.errors import Abandoned, Later, ModelError
from llm.ledger import Charge
from llm.messages import Attempt, ModelCall, Reply, ToolRequest, Usage
from tasks.journal import Journal
from tasks.leases import Held
from tasks.live import VOICE, Speech
from tasks.models import Task
from tasks.parking import PutOff, Unsure
from tasks.purse import Made, Purse
from tasks.replay import reply_of, summary_of_call, summary_of_reply
from tasks.states import StepKind, StepStatus
from tasks.stops import Released

PUT_OFF = "rate_limited"  # the outcome of a call that is only to be made later, in the ledger
GRACE_SECONDS = 30.0  # a call may overrun its own timeout by this much before the heartbeat lets the lease go


class Attendance:
    """The two doors of one run, journaled: a model call and a tool call."""

    def __init__(self, task: Task, held: Held, journal: Journal, agent: Assembled) -> None:
        self._held = held
        self._journal = journal
        self._agent = agent
        self._purse = Purse(task, held, journal, agent)
        self._allowed = frozenset(spec.name for spec in agent.tools)
        self._seconds = agent.limits.timeout_seconds - task.running_seconds
        self._tried = 0
        self._speech = Speech(task.id, 0)  # of the model call under way
        if task.cancel_requested_at is not None:  # of an attempt before this one
            held.cancelled.set()

    def as_run(self) -> Run:
        agent = self._agent
        return Run(
            planner=agent.planner, opening=agent.opening, tools=agent.tools, ask=self.ask, act=self.act,
            limits=agent.limits, seconds_left=self.seconds_left, check=self._journal.check,
            max_output_tokens=agent.settings.max_output_tokens, output_schema=agent.output_schema,
        )  # fmt: skip

    def seconds_left(self) -> float:
        """Running time that the task has left, over all its attempts."""
        return self._seconds - (time.monotonic() - self._held.claimed)

    def ask(self, turn: Turn) -> Reply:
        """One model call, or its recorded reply.

        Raises ModelError when it failed for good or may not be made, Parked when its task has to wait, or Stopped.
        """
        given = {"messages": [message.to_json() for message in turn.fresh]}
        settled = self._journal.replay(StepKind.LLM, self._agent.settings.model, given)
        if settled is not None:
            reply = reply_of(settled)
            self._tried += _made(reply.attempts)
            return reply
        turn = replace(turn, max_output_tokens=self._purse.open(turn, self._journal.seq))
        self._journal.begin(
            StepKind.LLM, self._agent.settings.model, given, progress_seconds=self._attempt_seconds(turn.seconds_left)
        )
        self._speech = VOICE.begin(self._held.task_id, self._journal.seq)
        try:
            reply = gateway.complete(
                self._call(turn), on_retry=self._retrying, should_stop=self._held.stopping, on_delta=self._speech.say
            )
        except ModelError as error:
            self._model_failed(error)
            raise
        except Later as later:
            self._journal.check_stopped()
            raise self._put_off(later) from later
        finally:
            self._speech.end()
        self._tried += _made(reply.attempts)
        self._journal.end(
            StepStatus.DONE, summary=summary_of_reply(reply), model=reply.model,
            output=_output_of(reply), **_costs(reply.usage, reply.attempts, reply.simulated),
            charges=self._charges(Made(reply.model, reply.usage, reply.attempts, simulated=reply.simulated)),
        )  # fmt: skip
        self._purse.warn(reply.usage)
        return reply

    def _put_off(self, later: Later) -> PutOff:
        """What attempts were billed is charged, and what is held for the call given back, until it goes on.

        Where none was made there is nothing to enter: the sweeper gives back what is held.
        """
        costs = _costs(later.usage, later.attempts, later.simulated)
        made = Made(later.model, later.usage, later.attempts, PUT_OFF, later.simulated)
        return PutOff(self._journal.seq, later, costs, self._charges(made))

    def _charges(self, made: Made) -> tuple[Charge, ...]:
        """Of what was made now: attempts from before a wait are in the ledger already."""
        now = made.attempts[len(self._journal.tried()) :]
        return self._purse.charges(replace(made, attempts=now), self._journal.seq)

    def act(self, request: ToolRequest, seconds_left: float) -> Observation:
        """One tool call, or its recorded observation. Raises Stopped, and Unsure when only a person can tell."""
        settled = self._journal.replay(StepKind.TOOL, request.name, request.arguments)
        if settled is not None:
            return Observation(settled.output, settled.error or "", registry.text_of(settled.output, settled.error))
        seen = self._found_out(request) or self._called(request, seconds_left)
        self._journal.end(
            StepStatus.FAILED if seen.failed else StepStatus.DONE,
            summary=summary_of_call(request, seen), output=seen.output, error=seen.error or None,
        )  # fmt: skip
        return seen

    def _called(self, request: ToolRequest, seconds_left: float) -> Observation:
        self._journal.begin(
            StepKind.TOOL, request.name, request.arguments,
            progress_seconds=min(seconds_left, registry.timeout_of(request.name)) + GRACE_SECONDS, call_id=request.id,
        )  # fmt: skip
        return registry.act(
            request, self._allowed, seconds_left, key=self._journal.key, should_stop=self._held.stopping
        )

    def _found_out(self, request: ToolRequest) -> Observation | None:
        """What a `once` tool did before its worker was lost; None when the call may be made (again)."""
        earlier = self._journal.interrupted()
        if earlier is None or earlier.repeat_allowed or registry.effect_of(request.name) != "once":
            return None
        found = registry.probe(request, self._journal.key)
        if found is None:
            raise Unsure(earlier.seq, request.name)
        if found is False:
            return None
        self._journal.take_over(earlier)
        return found

    def _call(self, turn: Turn) -> ModelCall:
        return ModelCall(
            settings=replace(self._agent.settings, max_output_tokens=turn.max_output_tokens),
            messages=turn.messages, tools=turn.tools, tried=self._tried, seconds_left=turn.seconds_left,
            output_schema=turn.output_schema, words_only=turn.words_only,
            earlier=self._journal.tried(), may_repeat=self._purse.covers, barred=self._purse.barred(),
            fallbacks=tuple(replace(one, max_output_tokens=turn.max_output_tokens) for one in self._agent.fallbacks),
        )  # fmt: skip

    def _attempt_seconds(self, seconds_left: float) -> float:
        """For how long an attempt at a model call is waited for, although it should have ended before."""
        timeout = self._agent.settings.call_timeout_seconds or settings.LLM_TIMEOUT_SECONDS
        return min(timeout, max(0.0, seconds_left)) + GRACE_SECONDS

    def _retrying(self, attempt: Attempt, wait_seconds: float) -> None:
        """The next attempt has a progress deadline of its own."""
        self._speech.again()
        self._held.progress_by = time.monotonic() + wait_seconds + self._attempt_seconds(self.seconds_left())
        self._journal.retrying(attempt, wait_seconds)

    def _model_failed(self, error: ModelError) -> None:
        """Journal the failed call, with what was billed; a cancel or a lost lease comes before its error."""
        self._journal.end(
            StepStatus.FAILED, summary=str(error)[:200], error=str(error),
            **_costs(error.usage, error.attempts, error.simulated),
            charges=self._charges(
                Made(self._agent.settings.model, error.usage, error.attempts, error.outcome, error.simulated)
            ),
        )  # fmt: skip
        self._purse.warn(error.usage)
        self._journal.check_stopped()
        if isinstance(error, Abandoned):  # the lease ran out, and was renewed after all once PostgreSQL was back
            raise Released


def _made(attempts: Sequence[Attempt]) -> int:
    """Those that were made, without the models that were passed over."""
    return sum(not attempt.skipped for attempt in attempts)


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
