"""What a caller asks for, and everything that can be wrong with it, whichever door it came through."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from agents import config
from agents.errors import FieldProblem
from tasks.ancestry import MOST_ANCESTORS, is_too_deep
from tasks.keys import allows
from tasks.models import ApiKey, Task

TASK_TYPES = ("agent_task",)
NAME_CHARS = 200
SESSION_CHARS = 200
DEPENDENCIES = 100
METADATA_ENTRIES = 16
METADATA_KEY_CHARS = 100
METADATA_VALUE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks for. `agent` is a slug, `slug@version`, or empty for the default agent.

    `overrides` is the task's `agent_config`. With `idempotency_key` comes the digest of the body it belongs to.
    """

    input_data: Mapping[str, Any]
    agent: str = ""
    task_type: str = "agent_task"
    name: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    priority: int = 0
    scheduled_at: datetime | None = None
    parent_task_id: str | None = None
    depends_on: Sequence[str] = ()
    api_key: ApiKey | None = None
    submitted_by: str = ""
    idempotency_key: str = ""
    body_digest: str = ""


def problems_of(submission: Submission, agent_config: Mapping[str, Any]) -> list[FieldProblem]:
    """Everything wrong with the submission for an agent of that configuration; empty when it can be accepted."""
    agent_limits = agent_config.get("limits", {})
    return [
        *config.check_input(submission.input_data, "/input_data", agent_config),
        *config.check_overrides(submission.overrides, agent_config, "/agent_config"),
        *config.check_limits(submission.limits, agent_limits, "/limits"),
        *_labels(submission),
        *_metadata(submission.metadata),
        *_relations(submission),
    ]


def _labels(submission: Submission) -> Iterator[FieldProblem]:
    if submission.task_type not in TASK_TYPES:
        detail = f"{submission.task_type!r} is not a task type; use {' or '.join(TASK_TYPES)}."
        yield FieldProblem("/task_type", "unknown_task_type", detail)
    if not isinstance(submission.name, str) or len(submission.name) > NAME_CHARS:
        yield FieldProblem("/name", "too_long", f"Use a text of at most {NAME_CHARS} characters.")
    if submission.session_id is not None and not 1 <= len(submission.session_id) <= SESSION_CHARS:
        yield FieldProblem("/session_id", "invalid_length", f"Use 1 to {SESSION_CHARS} characters, or null.")
    if type(submission.priority) is not int or not -5 <= submission.priority <= 5:
        detail = f"{submission.priority!r} is no priority; use a whole number from -5 to 5."
        yield FieldProblem("/priority", "out_of_range", detail)
    if submission.scheduled_at is not None and submission.scheduled_at.tzinfo is None:
        yield FieldProblem("/scheduled_at", "invalid", "Give the time zone, as in 2030-01-31T12:00:00Z.")


def _metadata(metadata: Any) -> Iterator[FieldProblem]:
    if not isinstance(metadata, Mapping):
        yield FieldProblem("/metadata", "invalid_type", "Use an object of texts.")
        return
    if len(metadata) > METADATA_ENTRIES:
        yield FieldProblem("/metadata", "too_many", f"Use at most {METADATA_ENTRIES} entries; got {len(metadata)}.")
        return
    for key, value in metadata.items():
        pointer = "/metadata/" + str(key).replace("~", "~0").replace("/", "~1")
        if not isinstance(key, str) or not 1 <= len(key) <= METADATA_KEY_CHARS:
            yield FieldProblem(pointer, "invalid_key", f"Use keys of 1 to {METADATA_KEY_CHARS} characters.")
        if not isinstance(value, str):
            detail = f"Use a text; got {type(value).__name__}. Nothing is converted."
            yield FieldProblem(pointer, "invalid_type", detail)
        elif len(value) > METADATA_VALUE_CHARS:
            yield FieldProblem(pointer, "too_long", f"Use at most {METADATA_VALUE_CHARS} characters.")


def _relations(submission: Submission) -> Iterator[FieldProblem]:
    """Other tasks that it names: each has to be one that the key may see. One query, another for a
    parent, and only when there are any.
    """
    named = [task_id for task_id in (submission.parent_task_id, *submission.depends_on) if task_id]
    if not named:
        return
    if len(submission.depends_on) > DEPENDENCIES:
        yield FieldProblem("/depends_on", "too_many", f"Use at most {DEPENDENCIES} tasks.")
        return
    seen = visible_to(submission.api_key).filter(id__in=named).only("id", "status", "cancel_requested_at")
    found = {task.id: task for task in seen}
    for place, task_id in enumerate(submission.depends_on):
        if task_id not in found:
            yield FieldProblem(f"/depends_on/{place}", "unknown_task", f"There is no task {task_id!r}.")
        elif task_id in submission.depends_on[:place]:
            yield FieldProblem(f"/depends_on/{place}", "repeated", f"{task_id} is named twice.")
    if submission.parent_task_id:
        yield from _parent(submission.parent_task_id, found.get(submission.parent_task_id))


def _parent(task_id: str, parent: Task | None) -> Iterator[FieldProblem]:
    if parent is None:
        yield FieldProblem("/parent_task_id", "unknown_task", f"There is no task {task_id!r}.")
    elif parent.is_final or parent.cancel_requested_at is not None:
        yield FieldProblem("/parent_task_id", "parent_ended", f"{task_id} has ended and can have no more children.")
    elif is_too_deep(task_id):
        detail = f"{task_id} has {MOST_ANCESTORS} tasks above it, as many as there may be; submit this one higher up."
        yield FieldProblem("/parent_task_id", "too_deep", detail)


def visible_to(key: ApiKey | None) -> QuerySet[Task]:
    """The tasks that a consumer may know of: its own, all of them with `tasks:read_all`; without a key all."""
    tasks = Task.objects.all()
    return tasks if key is None or allows(key, "tasks:read_all") else tasks.filter(api_key=key)
