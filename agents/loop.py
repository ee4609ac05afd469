"""The loop: check the limits, let the planner decide, act, observe, again, until there is an outcome.

It knows neither models nor tools nor the database: all of it is handed in as a `Run`. With doors that answer a
journaled step as it was answered before, a second run of the same journal goes the same way.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agents.answers import judge, repair
from agents.contract import Answer, AskModel, Outcome, Run, Turn, Unplannable
from llm.errors import ModelError
from llm.messages import Message, Reply, ToolRequest


@dataclass(slots=True)
class Progress:
    """What has been said and spent so far. `fresh` are the messages that the next turn brings to the journal."""

    conversation: list[Message]
    fresh: list[Message]
    said: list[Message]  # the conversation as it is sent
    reply: Reply | None = None
    pending: deque[ToolRequest] = field(default_factory=deque)
    steps: int = 0
    tool_calls: int = 0
    tokens: int = 0
    repaired: bool = False  # an answer that did not fit the schema has had its repair turn

    def replied(self, reply: Reply, message: Message) -> None:
        self.add(message)
        self.fresh, self.reply = [], reply
        self.tokens += reply.usage.tokens

    def observed(self, message: Message) -> None:
        self.add(message)
        self.reply = None

    def add(self, message: Message) -> None:
        """An assistant message that says nothing stays in the journal; it is not sent, since providers refuse it."""
        self.conversation.append(message)
        if not _says_nothing(message):
            self.said.append(message)


def run(run: Run) -> Outcome:
    """Play a run to its end. Raises only what `run.check` raises, and what a door raises by mistake."""
    said = [message for message in run.opening if not _says_nothing(message)]
    progress = Progress(list(run.opening), list(run.opening), said)
    while True:
        run.check()
        outcome = _spent(run, progress) or _move(run, progress)
        if outcome is not None:
            return outcome


def _move(run: Run, progress: Progress) -> Outcome | None:
    """One step: a model call or a tool call; or the end."""
    if not progress.pending:
        decision = run.planner.decide(tuple(progress.conversation), progress.reply)
        if isinstance(decision, Answer):
            return _answered(run, progress, decision.text)
        if isinstance(decision, Unplannable):
            return Outcome.failed(decision.error_code, decision.detail)
        if isinstance(decision, AskModel):
            return _ask(run, progress, decision)
        progress.pending.extend(decision.requests)
    return _act(run, progress)


def _answered(run: Run, progress: Progress, text: str) -> Outcome | None:
    """The end, or one more turn when the answer does not fit the schema for the first time."""
    if run.output_schema is None:
        return Outcome("completed", text)
    judged = judge(text, run.output_schema)
    if not judged.problems:
        return Outcome("completed", judged.value)
    if progress.repaired:
        return Outcome.failed("output_invalid", "The answer does not fit output_schema, also after a repair turn: "
                              f"{'; '.join(judged.problems)}.")  # fmt: skip
    progress.repaired = True
    return _ask(run, progress, AskModel(repair(judged.problems)))


def _ask(run: Run, progress: Progress, wanted: AskModel) -> Outcome | None:
    if wanted.nudge is not None:
        progress.add(wanted.nudge)
        progress.fresh.append(wanted.nudge)
    if full := _no_step_left(run, progress):
        return full
    progress.steps += 1
    try:
        reply = run.ask(_turn(run, progress, wanted.words_only))
    except ModelError as error:
        if run.seconds_left() <= 0:
            return _out_of_time(run, f" during a model call ({error})")
        return Outcome.failed(error.code, str(error))
    progress.replied(reply, run.planner.remember(tuple(progress.conversation), reply))
    return None


def _act(run: Run, progress: Progress) -> Outcome | None:
    if full := _no_step_left(run, progress) or _no_tool_call_left(run, progress):
        return full
    progress.steps += 1
    progress.tool_calls += 1
    request = progress.pending.popleft()
    observation = run.act(request, run.seconds_left())
    progress.observed(run.planner.observe(request, observation))
    return None


def _turn(run: Run, progress: Progress, words_only: bool) -> Turn:
    most = [run.max_output_tokens] if run.max_output_tokens is not None else []
    if run.limits.max_tokens is not None:
        most.append(run.limits.max_tokens - progress.tokens)
    in_words = run.planner.in_words
    return Turn(
        tuple(progress.said), tuple(progress.fresh), () if in_words else run.tools, min(most, default=None),
        run.seconds_left(), words_only, None if in_words or words_only else run.output_schema,
    )  # fmt: skip


def _says_nothing(message: Message) -> bool:
    text = message.content.strip() if isinstance(message.content, str) else message.content
    return message.role == "assistant" and not text and not message.tool_requests


def _spent(run: Run, progress: Progress) -> Outcome | None:
    """Limits that end a task at any boundary, also when an answer is at hand."""
    if run.seconds_left() <= 0:
        return _out_of_time(run)
    if run.limits.max_tokens is not None and progress.tokens > run.limits.max_tokens:
        return _out_of_tokens(run, progress)
    return None


def _no_step_left(run: Run, progress: Progress) -> Outcome | None:
    """Limits that keep the next call from being made."""
    limits = run.limits
    if progress.steps >= limits.max_steps:
        return Outcome.failed("max_steps", f"Stopped before step {progress.steps + 1}: limits.max_steps is "
                              f"{limits.max_steps}. Raise it, or ask for less.")  # fmt: skip
    if limits.max_tokens is not None and progress.tokens >= limits.max_tokens:
        return _out_of_tokens(run, progress)
    return None


def _no_tool_call_left(run: Run, progress: Progress) -> Outcome | None:
    limit = run.limits.max_tool_calls
    if limit is None or progress.tool_calls < limit:
        return None
    return Outcome.failed("max_steps", f"Stopped before tool call {progress.tool_calls + 1}: limits.max_tool_calls "
                          f"is {limit}. Raise it, or ask for less.")  # fmt: skip


def _out_of_time(run: Run, where: str = "") -> Outcome:
    return Outcome.failed("timeout", f"Ran out of time{where}: limits.timeout_seconds is "
                          f"{run.limits.timeout_seconds:g}. Raise it, or ask for less.")  # fmt: skip


def _out_of_tokens(run: Run, progress: Progress) -> Outcome:
    return Outcome.failed("budget_exceeded", f"Used {progress.tokens} tokens: limits.max_tokens is "
                          f"{run.limits.max_tokens}. Raise it, or ask for less.")  # fmt: skip
