"""Bringing a waiting task back to life: what a person, a budget or an approval says, and the move that follows."""
from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction
from psycopg import sql

from llm import accounts
from llm.models import Budget
from tasks import bell, moves
from tasks.budget_waits import blocking
from tasks.errors import NotWaiting, WrongKind
from tasks.lifecycle import cancel, task_by_id
from tasks.models import Step, Task
from tasks.moves import Change, Ended, Note
from tasks.replay import one_line
from tasks.states import EventType, Status, StepStatus, WaitingOn

RESOLUTIONS = ("happened", "again", "stop")


def resolve(task_id: str, how: str, *, by: str, result: Any = None) -> Task:
    """Say what became of a step that is `unknown`: it happened (with its result), do it again, or stop. Commits.

    The task goes on from there; with `stop` it is cancelled. Raises UnknownTask, NotWaiting, and WrongKind when it
    waits for something else.
    """
    task = _waiting(task_id)
    step = task.steps.filter(status=StepStatus.UNKNOWN).order_by("-seq").first()
    if task.waiting_on != WaitingOn.INPUT or step is None:
        awaited = str(task.get_waiting_on_display()).lower()
        raise WrongKind(f"The task waits for {awaited}, not for the outcome of a step.")
    if how == "stop":
        return cancel(task_id, by=by)
    happened = how == "happened"
    if not happened:
        Step.objects.filter(id=step.id, status=StepStatus.UNKNOWN).update(repeat_allowed=True)
    change = _as_happened(step, result, by) if happened else _again(step, by)
    if moves.apply(task_id, change) is None:
        raise NotWaiting("The task was resumed or cancelled a moment ago; read it again.")
    bell.nudge(task.queue)
    return task_by_id(task_id)


def add_budget(task_id: str, amount_usd: Decimal, *, by: str, beyond_agent: bool = True) -> Task:
    """Raise the budget that the task brought along, or that it draws from a task above it, and let it go on. Commits.

    Raises UnknownTask, NotWaiting, and WrongKind when it waits for something else or for a budget of somebody else, or,
    unless `beyond_agent`, when it would have more than `limits.max_cost_usd` of the agent's version.
    """
    task = _waiting(task_id)
    if task.waiting_on != WaitingOn.BUDGET:
        raise WrongKind(f"The task waits for {task.get_waiting_on_display()}, not for a budget.")
    owner = _owner(task)
    most = None if beyond_agent else _most_of_agent(owner)
    note = Note(EventType.TASK_RESUMED, {"by": by, "add_budget_usd": f"{amount_usd:f}", "budget_of": owner})
    change = Change(to=Status.PENDING, sources=frozenset({Status.WAITING}), assign=_AWAKE, notes=(note,))
    with transaction.atomic():
        if moves.apply(task_id, change) is None:
            raise NotWaiting("The task was resumed or cancelled a moment ago; read it again.")
        if not accounts.add(owner, amount_usd, most) and most is not None:
            raise WrongKind(
                f"With ${amount_usd:f} more, {owner} would have more than its agent allows a task "
                f"(limits.max_cost_usd: ${most:f}): add less, or let somebody with the scope admin add it."
            )
    bell.nudge(task.queue)
    return task_by_id(task_id)


def _owner(task: Task) -> str:
    """The task whose own limit is in the way. Raises WrongKind, naming the budget, when that is not one of its own."""
    line = blocking(task)
    if line is None:
        raise WrongKind("The budget that the task waited for is gone; it goes on within a moment.")
    others = Budget.objects.filter(
        enabled=True, scope=line.scope, scope_id=line.scope_id, period=line.period, limit_usd__lte=line.limit_usd
    )
    family = Task.objects.filter(id=line.scope_id, api_key=task.api_key_id)
    if line.scope != "task" or others.exists() or not family.exists():
        raise WrongKind(f"The task waits for {line.name}, which is not its own: raise that one; then it goes on.")
    return line.scope_id


def _most_of_agent(owner: str) -> Decimal | None:
    """What the agent's version allows a task of it; None when it says nothing. One query."""
    config = Task.objects.values_list("version__config", flat=True).get(id=owner)
    said = config.get("limits", {}).get("max_cost_usd")
    return None if said is None else Decimal(str(said))


def _waiting(task_id: str) -> Task:
    task = task_by_id(task_id)
    if task.status != Status.WAITING:
        raise NotWaiting(f"The task is {task.status}; only a waiting task can be resumed.")
    return task


def _as_happened(step: Step, result: Any, by: str) -> Change:
    summary = one_line(f"{step.name}: {by} says that it happened")
    ended = Ended(step.seq, StepStatus.DONE.value, summary=summary, output=result)
    completed = {"step": step.seq, "kind": step.kind, "name": step.name, "status": "done", "summary": summary}
    notes = (_resumed(step, "happened", by), Note(EventType.STEP_COMPLETED, completed))
    return Change(to=Status.PENDING, sources=frozenset({Status.WAITING}), assign=_AWAKE, ended=(ended,), notes=notes)


def _again(step: Step, by: str) -> Change:
    notes = (_resumed(step, "again", by),)
    return Change(to=Status.PENDING, sources=frozenset({Status.WAITING}), assign=_AWAKE, notes=notes)


def _resumed(step: Step, how: str, by: str) -> Note:
    return Note(EventType.TASK_RESUMED, {"by": by, "resolve": how, "step": step.seq})


_AWAKE = {"waiting_on": None, "rung_at": None, "takeovers": sql.SQL("0")}
