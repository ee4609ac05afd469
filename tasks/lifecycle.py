"""What callers may do with a task: submit, cancel, retry. Every door (REST, admin, commands) comes through here."""
from __future__ import annotations

import contextlib
from functools import partial

from django.conf import settings
from django.db import IntegrityError, transaction
from psycopg import sql

from agents import overrides
from agents.errors import AgentArchived, FieldProblem, UnknownAgent
from agents.models import AgentVersion
from tasks import bell, creation, dependents, moves
from tasks.errors import AlreadyFinal, IdempotencyConflict, NotFinal, SubmissionInvalid, UnknownTask
from tasks.models import ApiKey, IdempotencyKey, Task
from tasks.moves import Change, Note
from tasks.states import EventType, Status
from tasks.submission import Submission, problems_of

__all__ = ["Submission", "cancel", "retry", "submit"]


def submit(submission: Submission) -> tuple[Task, bool]:
    """Commit a new pending task and ring the bell; (task, replayed).

    With an idempotency key that was used before, answers the task it made then and changes nothing. Raises
    UnknownAgent, AgentArchived, SubmissionInvalid and IdempotencyConflict. The bell rings after the commit, in
    another thread; when it is lost the sweeper rings.
    """
    if earlier := _earlier(submission):
        return earlier, True
    version = pinned_version(submission.agent)
    if problems := problems_of(submission, version.config):
        raise SubmissionInvalid("The task is not valid.", problems=tuple(problems))
    try:
        return _create(submission, version), False
    except IntegrityError:
        if earlier := _earlier(submission):  # the same key at the same time: the other one was first
            return earlier, True
        raise


def cancel(task_id: str, *, by: str) -> Task:
    """Cancel now what does not run; ask the worker of what runs. Asked twice the same. Commits.

    Raises UnknownTask and AlreadyFinal. An open call of a running task is closed within a second or so, or with the
    next heartbeat when Redis is away. Children are cancelled too, and what depends on a cancelled task fails; the
    sweeper finishes that when the process dies.
    """
    task = _cancel(task_id, by)
    for child in dependents.unfinished_children(task_id):
        with contextlib.suppress(AlreadyFinal):  # it ended meanwhile
            cancel(child, by=by)
    if task.is_final:
        dependents.settle(task_id)
    else:
        transaction.on_commit(partial(bell.hurry, task_id))
    return task


def _cancel(task_id: str, by: str) -> Task:
    now = sql.SQL("coalesce(cancel_requested_at, clock_timestamp())")
    assign = {"cancel_requested_at": now, "completed_at": sql.SQL("clock_timestamp()"), "waiting_on": None}
    idle = Change(
        to=Status.CANCELLED, sources=frozenset({Status.PENDING, Status.WAITING}), assign=assign,
        notes=(Note(EventType.TASK_CANCELLED, {"by": by}),),
    )  # fmt: skip
    asked = Change(
        sources=frozenset({Status.RUNNING}), only_if=(sql.SQL("cancel_requested_at IS NULL"),),
        assign={"cancel_requested_at": now}, notes=(Note(EventType.TASK_CANCELLING, {"by": by}),),
    )  # fmt: skip
    for _ in range(10):  # it may be claimed or released between two looks
        if moves.apply(task_id, idle) or moves.apply(task_id, asked):
            return task_by_id(task_id)
        task = task_by_id(task_id)
        if task.cancel_requested_at is not None and task.status in (Status.RUNNING, Status.CANCELLED):
            return task
        if task.is_final:
            raise AlreadyFinal(f"The task is {task.status} since {task.completed_at:%Y-%m-%dT%H:%M:%SZ}.")
    return task


def retry(task_id: str, *, by: str, api_key: ApiKey | None = None) -> Task:
    """Submit the same work again, on the agent's current version, for the key that owned it. Commits.

    Raises UnknownTask, NotFinal, AgentArchived and SubmissionInvalid (the agent may allow less by now).
    """
    task = task_by_id(task_id)
    if not task.is_final:
        raise NotFinal(f"The task is {task.status}. Cancel it first, or wait for its end.")
    version = pinned_version(task.agent.slug)
    again = Submission(
        input_data=task.input_data, task_type=task.task_type, name=task.name, overrides=task.overrides,
        limits=task.limits, metadata=task.metadata, session_id=task.session_id, priority=task.priority,
        api_key=task.api_key or api_key, submitted_by=by,
    )  # fmt: skip
    if problems := problems_of(again, version.config):
        raise SubmissionInvalid("The task is no longer valid for its agent.", problems=tuple(problems))
    return _create(again, version, retry_of=task)


def pinned_version(agent: str) -> AgentVersion:
    """The version that `slug`, `slug@version` or '' (the default agent) means now. One query.

    Raises UnknownAgent and AgentArchived.
    """
    slug, at, number = (agent or settings.DEFAULT_AGENT).partition("@")
    found = None
    if not at or _is_version(number):
        found = creation.published(slug, int(number) if at else None)
    if found is None:
        detail = f"There is no agent {agent or slug!r}. List the agents, or create it first."
        raise UnknownAgent(detail, problems=(FieldProblem("/agent", "unknown_agent", detail),))
    if found.agent.archived:
        raise AgentArchived(f"The agent {slug!r} is archived and takes no new tasks.")
    return found


def _is_version(number: str) -> bool:
    return number.isascii() and number.isdigit() and len(number) <= 9 and number[0] != "0"


def _earlier(submission: Submission) -> Task | None:
    """The task that this idempotency key made before. Raises IdempotencyConflict when the body was another."""
    if not submission.idempotency_key:
        return None
    used = (
        IdempotencyKey.objects.select_related("task__agent", "task__version")
        .filter(api_key=submission.api_key, key=submission.idempotency_key)
        .first()
    )
    if used is None:
        return None
    if used.body_digest != submission.body_digest:
        raise IdempotencyConflict(
            f"The Idempotency-Key {submission.idempotency_key!r} was used with another body. Use a new key."
        )
    return used.task


def _create(submission: Submission, version: AgentVersion, retry_of: Task | None = None) -> Task:
    task = Task(
        agent=version.agent, version=version, api_key=submission.api_key, submitted_by=submission.submitted_by,
        task_type=submission.task_type, name=submission.name, input_data=dict(submission.input_data),
        overrides=overrides.merge(submission.input_data, submission.overrides), limits=dict(submission.limits),
        metadata=dict(submission.metadata), session_id=submission.session_id, priority=submission.priority,
        scheduled_at=submission.scheduled_at, queue=version.config.get("queue", "default"),
        max_concurrency=version.config.get("max_concurrency"), parent_id=submission.parent_task_id,
        blocked=bool(submission.depends_on), retry_of=retry_of, last_seq=1,
    )  # fmt: skip
    creation.create(task, submission)
    if task.blocked:
        transaction.on_commit(partial(dependents.review, task.id))
    else:
        transaction.on_commit(partial(bell.nudge, task.queue))
    return task


def task_by_id(task_id: str) -> Task:
    """The task with its agent and version. Raises UnknownTask."""
    task = Task.objects.select_related("agent", "version", "api_key").filter(id=task_id).first()
    if task is None:
        raise UnknownTask(f"There is no task {task_id!r}.")
    return task
