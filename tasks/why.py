"""Why a task does not move: what it waits for in plain sentences, and the one thing to do about it."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from agents import overrides
from llm.budget import Line, refusal
from tasks.budget_waits import asked_for, blocking
from tasks.models import Step, Task
from tasks.prospects import Facts, ahead, facts, last_seen
from tasks.states import FINAL, EventType, Status, StepStatus, WaitingOn

NAMED = 5  # other tasks named in a sentence
AHEAD_CAP = 1000
SILENT_AFTER_HEARTBEATS = 1.5
START = "Start a worker, for example with ./opspawn up"
REASONS = (
    "no_worker", "behind_others", "agent_concurrency", "scheduled", "dependency", "approval", "input", "budget",
    "children", "provider_cooldown", "lease_expiring", "running", "final",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a code for programs, a sentence for people, and what to do."""

    code: str
    text: str
    action: str


def reasons(task: Task, *, shared_money: bool = True) -> list[Reason]:
    """Why the task stands where it stands, the decisive reason first; never empty. At most four cheap queries.

    `task` comes with its agent and version. Without `shared_money` nothing is told of how a budget stands that others
    spend of, too.
    """
    if task.status == Status.WAITING and task.waiting_on == WaitingOn.BUDGET and not shared_money:
        return [_budget_of_others(task)]
    if task.status in FINAL:
        return [_final(task)]
    return list(EXPLAIN[Status(task.status)](task))


def _final(task: Task) -> Reason:
    ended = f"{task.completed_at:%Y-%m-%d %H:%M:%S} UTC" if task.completed_at else "a time unknown"
    if task.status == Status.COMPLETED:
        return Reason("final", f"It ended as completed at {ended}.", "Read its result; there is nothing to wait for.")
    why = f" ({task.error_code}): {task.error_message}" if task.status == Status.FAILED else "."
    return Reason("final", f"It ended as {task.status} at {ended}{why}", "Retry it to submit the same work anew.")


def _pending(task: Task) -> Iterator[Reason]:
    now = facts(task)
    if task.blocked:
        yield _dependency(task)
    if task.scheduled_at is not None and task.scheduled_at > now.at:
        wait = in_words((task.scheduled_at - now.at).total_seconds())
        text = f"It is scheduled for {task.scheduled_at:%Y-%m-%d %H:%M:%S} UTC, in {wait}."
        yield Reason("scheduled", text, "Wait, or cancel it and submit it without a time.")
        return
    if not now.workers:
        yield _no_worker(task, now)
    if task.blocked:
        return
    full = task.max_concurrency is not None and now.of_agent >= task.max_concurrency
    if full:
        yield _agent_concurrency(task, now)
    queued = _behind(task, now)
    if queued is not None and (now.workers or queued[0]) and not (full and not queued[0]):
        yield queued[1]


def _dependency(task: Task) -> Reason:
    on = task.dependencies.exclude(on__status=Status.COMPLETED).order_by("id")
    found = list(on.annotate(state=F("on__status")).values_list("on_id", "state")[: NAMED + 1])
    if not found:
        text = "All tasks that it depends on have completed; it is freed within a moment."
        return Reason("dependency", text, "Wait a few seconds.")
    have = "has" if len(found) == 1 else "have"
    text = f"It depends on {_several(found, 'task')} that {have} not completed: {_named(found)}."
    return Reason("dependency", text, "Look at why these do not move, or cancel this one.")


def _no_worker(task: Task, now: Facts) -> Reason:
    if now.draining:
        seen = f"{some(now.draining, 'worker')} of it {'is' if now.draining == 1 else 'are'} shutting down"
    elif now.seen_seconds is None:
        seen = "none was seen there in the last 24 hours"
    else:
        seen = f"the last one, {now.seen_name}, was seen {in_words(now.seen_seconds)} ago"
    text = f"No live worker serves the queue {task.queue!r}; {seen}."
    known = task.queue in settings.WORKER_QUEUES
    return Reason("no_worker", text, f"{START}{'.' if known else f', and name {task.queue!r} in its WORKER_QUEUES.'}")


def _agent_concurrency(task: Task, now: Facts) -> Reason:
    text = (
        f"The agent {task.agent.slug!r} is at its max_concurrency: {now.of_agent} of {task.max_concurrency} tasks run."
    )
    return Reason("agent_concurrency", text, "Wait for one of them to end, or raise the agent's max_concurrency.")


def _behind(task: Task, now: Facts) -> tuple[int, Reason]:
    """How many are ahead of it, and the sentence about that. One query."""
    higher, older, own = ahead(task, AHEAD_CAP + 1)
    total = min(higher + older, AHEAD_CAP + 1)
    count = f"more than {AHEAD_CAP:,} other tasks" if total > AHEAD_CAP else some(total, "other task")
    slots = f"{now.free} of {some(now.slots, 'slot')} {'is' if now.free == 1 else 'are'} free"
    if not total:
        told = f" A worker was told {in_words(now.rung_seconds)} ago." if now.rung_seconds is not None else ""
        text = f"It is the next one of the queue {task.queue!r}; {slots}.{told}"
        action = "Wait a moment." if now.free else "Wait for a free slot, or add workers."
        return 0, Reason("behind_others", text, action)
    turns = f", {_capped(own)} of them from the same API key (keys take turns)" if 0 < own < older else ""
    text = (
        f"It is behind {count} in the queue {task.queue!r}: {_capped(higher)} with a higher priority and "
        f"{_capped(older)} older{turns}; {slots}."
    )
    action = "Wait, add workers, or submit urgent work with a higher priority."
    return total, Reason("behind_others", text, "Wait a moment: slots are free." if now.free else action)


def _capped(count: int) -> str:
    return f"more than {AHEAD_CAP:,}" if count > AHEAD_CAP else str(count)


def _running(task: Task) -> Iterator[Reason]:
    now = facts(task)
    left = (task.lease_until - now.at).total_seconds() if task.lease_until else 0.0
    silent = settings.TASK_LEASE_SECONDS - left
    if silent > SILENT_AFTER_HEARTBEATS * settings.TASK_HEARTBEAT_SECONDS:
        yield _lease_expiring(task, now, left, silent)
    yield _at_work(task, now)


def _lease_expiring(task: Task, now: Facts, left: float, silent: float) -> Reason:
    seen = last_seen(task.worker)
    alive = seen is not None and seen < silent - 1
    who = (
        f"The worker {task.worker} is alive but stopped renewing this task's lease {in_words(silent)} ago: "
        "its call has passed every deadline"
        if alive
        else f"The worker {task.worker} was last seen {in_words(silent if seen is None else seen)} ago"
    )
    lease = f"its lease ends in {in_words(left)}" if left > 0 else f"its lease ended {in_words(-left)} ago"
    if not now.workers:
        text = f"{who}; {lease}, and no live worker is left to take the task back."
        return Reason("lease_expiring", text, f"{START}: it goes on from the last finished step.")
    back = in_words(max(left, 0.0) + settings.TASK_SWEEP_SECONDS)
    text = f"{who}; {lease}, and the task is taken back within about {back}."
    return Reason("lease_expiring", text, "Wait: another worker goes on from the last finished step.")


def _at_work(task: Task, now: Facts) -> Reason:
    step = task.steps.defer("input", "output").order_by("-seq").first()
    ran = task.running_seconds + ((now.at - task.claimed_at).total_seconds() if task.claimed_at else 0.0)
    given = (task.version.config.get("limits", {}), task.overrides.get("limits", {}), task.limits)
    left = overrides.tightest(*given).timeout_seconds - ran
    limit = f"it may run {in_words(left)} more" if left > 0 else f"its time is over since {in_words(-left)}"
    if step is not None and step.status == StepStatus.STARTED:
        since = f"since {step.started_at:%H:%M:%S} UTC ({in_words((now.at - step.started_at).total_seconds())})"
        doing = f"Step {step.seq}, the {step.get_kind_display().lower()} {step.name!r}, runs {since}"
    else:
        doing = f"It is between two steps, after {task.steps_count}," if step else "It begins,"
    text = f"{doing} on {task.worker}; {limit}."
    if task.cancel_requested_at is None:
        return Reason("running", text, "Wait, or cancel it.")
    asked = in_words((now.at - task.cancel_requested_at).total_seconds())
    return Reason("running", f"{text} A cancel was requested {asked} ago.", "Wait: the call under way is ended first.")


def _waiting(task: Task) -> Iterator[Reason]:
    if task.waiting_on == WaitingOn.INPUT:
        yield _input(task)
    elif task.waiting_on == WaitingOn.CHILDREN:
        yield _children(task)
    elif task.waiting_on == WaitingOn.TIMER:
        yield _timer(task)
    elif task.waiting_on == WaitingOn.BUDGET:
        yield _budget(task)
    else:
        yield WAITS.get(task.waiting_on or "", WAITS[""])


def _input(task: Task) -> Reason:
    step = unknown_step(task)
    if step is None:
        return Reason("input", "It waits for an answer from a person.", "Answer it.")
    text = (
        f"Step {step.seq}, the call of {step.name!r} made at {step.started_at:%Y-%m-%d %H:%M:%S} UTC, is unknown: its "
        "worker was lost, and nobody knows whether the call took effect."
    )
    action = (
        f"Look for it under the key {task.id}:{step.seq}, then resume the task with resolve: happened (with its "
        "result), again or stop."
    )
    return Reason("input", text, action)


def _budget(task: Task) -> Reason:
    line = blocking(task)
    if line is None:
        return WAITS["budget"]
    needed = Decimal(asked_for(task)["needed_usd"])
    if needed <= line.left_usd:
        text = f"{line.name[0].upper()}{line.name[1:]} has room again."
        return Reason("budget", text, "Wait a few seconds: it goes on by itself.")
    text = refusal(line, needed, f": {line.standing()}")
    if needed <= line.limit_usd - line.spent_usd:
        return Reason("budget", text, "Wait: it goes on by itself when those calls end. Or raise the budget.")
    if line.scope == "task":
        return Reason("budget", text, "Add to it: resume the task with add_budget_usd. Or cancel the task.")
    until = {"day": ", or wait for the next day (00:00 UTC)", "month": ", or wait for the next month (UTC)"}
    return Reason("budget", text, f"Raise that budget{until.get(line.period, ', or cancel the task')}.")


def _budget_of_others(task: Task) -> Reason:
    """For who may know of this task only: which budget, and what the call needs."""
    line = blocking(task)
    if line is None or _may_know(task, line):
        return _budget(task)
    action = "Wait: it goes on by itself when there is room. Or ask an administrator to raise that budget."
    return Reason("budget", refusal(line, Decimal(asked_for(task)["needed_usd"])), action)


def _may_know(task: Task, line: Line) -> bool:
    """Of a budget of the task, of its API key, or of a task above it that the same key submitted."""
    of_family = line.scope == "task" and Task.objects.filter(id=line.scope_id, api_key=task.api_key_id).exists()
    return line.scope == "api_key" or of_family


def _children(task: Task) -> Reason:
    unfinished = task.children.exclude(status__in=FINAL).order_by("id").values_list("id", "status")
    found = list(unfinished[: NAMED + 1])
    if not found:
        text = "All its child tasks have ended; it goes on within a moment."
        return Reason("children", text, "Wait a few seconds.")
    text = f"It waits for {_several(found, 'child task')}: {_named(found)}."
    return Reason("children", text, "Look at why these do not move, or cancel them.")


def _timer(task: Task) -> Reason:
    """What the last `task.waiting` says; a timer that no provider set is a time to come. One query."""
    event = task.events.filter(type=EventType.TASK_WAITING).order_by("-seq").first()
    said = event.data if event else {}
    left = (task.wake_at - timezone.now()).total_seconds() if task.wake_at else 0.0
    when = f"until {task.wake_at:%Y-%m-%d %H:%M:%S} UTC, {in_words(left)} more" if task.wake_at else "for a moment"
    if "provider" not in said:
        return Reason("scheduled", f"It waits {when}.", "Wait, or cancel it.")
    text = f"It leaves {said['provider']} alone {when}: {str(said.get('reason', '')).rstrip('.')}."
    action = "Wait: it goes on by itself. Or give the agent fallback_models, or cancel it."
    return Reason("provider_cooldown", text, action)


def _named(found: list[tuple[str, str]]) -> str:
    """The first few of other tasks, with their statuses."""
    return ", ".join(f"{other} ({status})" for other, status in found[:NAMED]) + (" …" if len(found) > NAMED else "")


def _several(found: list[tuple[str, str]], noun: str) -> str:
    return some(len(found), noun) if len(found) <= NAMED else f"more than {NAMED} {noun}s"


def unknown_step(task: Task) -> Step | None:
    """The step of which nobody knows whether it took effect. One query."""
    return task.steps.filter(status=StepStatus.UNKNOWN).order_by("-seq").first()


def in_words(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 days 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, unit, below, small in ((86_400, "days", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            name = "day" if unit == "days" and whole // size == 1 else unit
            return f"{whole // size} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def some(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


EXPLAIN: dict[Status, Callable[[Task], Iterator[Reason]]] = {
    Status.PENDING: _pending, Status.RUNNING: _running, Status.WAITING: _waiting,
}  # fmt: skip
WAITS: dict[str, Reason] = {
    "approval": Reason("approval", "It waits for a decision about a tool call.", "Approve or reject that call."),
    "budget": Reason("budget", "The next call would not fit its budget.", "Raise the budget, or cancel the task."),
    "": Reason("input", "It waits.", "Look at its events."),
}
