"""Tasks, their steps and events, and the keys of those who submit them."""
from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from agents.models import Agent, AgentVersion
from tasks.ids import new_task_id
from tasks.states import FINAL, ErrorCode, EventType, Status, StepKind, StepStatus, WaitingOn

SCOPES = {
    "tasks:write": "Submit tasks; cancel, retry and resume its own",
    "tasks:read": "Read its own tasks",
    "tasks:read_all": "Read the tasks of every key",
    "agents:read": "Read agents and their versions",
    "agents:write": "Create, change and roll back agents",
    "memory:read": "Search memories",
    "memory:write": "Add and delete memories",
    "approvals:decide": "Decide approvals",
    "admin": "Everything, and the objects of every key",
}
DEFAULT_SCOPES = ("tasks:write", "tasks:read", "agents:read")


class ApiKey(models.Model):
    """A consumer. The key itself is shown once, when `tasks.keys.issue` makes it; its SHA-256 is kept."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes: ArrayField[list[str], list[str]] = ArrayField(models.CharField(max_length=32))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        constraints = [
            models.CheckConstraint(condition=Q(scopes__contained_by=list(SCOPES)), name="apikey_scopes_known"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Task(models.Model):
    """What was asked, and its life. Status changes only through `tasks.moves`; `attempt` is the fencing token."""

    id = models.CharField(primary_key=True, max_length=37, default=new_task_id, editable=False)
    task_type = models.CharField(max_length=40, default="agent_task")
    name = models.CharField(max_length=200, blank=True, default="")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    waiting_on = models.CharField(max_length=10, choices=WaitingOn, null=True, blank=True)  # noqa: DJ001
    # Each write of a row opens every index of its table (3 µs): none that another one covers.
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    version = models.ForeignKey(AgentVersion, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.PROTECT, related_name="tasks", db_index=False
    )
    submitted_by = models.CharField(max_length=200, blank=True, default="")

    input_data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    overrides: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    limits: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    metadata: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(default=dict)
    session_id = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    priority = models.SmallIntegerField(default=0, validators=[MinValueValidator(-5), MaxValueValidator(5)])
    queue = models.CharField(max_length=64, default="default")
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children", db_index=False
    )
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries", db_index=False
    )
    scheduled_at = models.DateTimeField(null=True, blank=True)
    blocked = models.BooleanField(default=False)  # by a dependency that has not completed yet
    max_concurrency = models.IntegerField(null=True, blank=True)  # of its agent's version

    result: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=24, choices=ErrorCode, null=True, blank=True)  # noqa: DJ001
    error_message = models.TextField(null=True, blank=True)  # noqa: DJ001

    steps_count = models.IntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=20, decimal_places=10, null=True, blank=True, default=Decimal(0))

    attempt = models.IntegerField(default=0)  # times claimed
    takeovers = models.IntegerField(default=0)  # leases expired since the last progress
    last_seq = models.IntegerField(default=0)  # of its events
    worker = models.CharField(max_length=200, blank=True, default="")
    rung_at = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)  # of a task that waits for a timer
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    running_seconds = models.FloatField(default=0)  # of earlier attempts
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["api_key", "-id"], name="task_of_key"),
            models.Index(fields=["status", "-id"], name="task_by_status"),
            models.Index(fields=["agent", "-id"], name="task_of_agent"),
            models.Index(fields=["session_id", "-id"], name="task_of_session", condition=Q(session_id__isnull=False)),
            models.Index(fields=["parent"], name="task_of_parent", condition=Q(parent__isnull=False)),
            models.Index(fields=["retry_of"], name="task_retry_of", condition=Q(retry_of__isnull=False)),
            models.Index(F("queue"), F("priority").desc(), Coalesce(F("api_key"), 0), F("id"), name="task_unrung",
                         condition=Q(status=Status.PENDING, rung_at__isnull=True, blocked=False)),
            models.Index(fields=["id"], name="task_blocked", condition=Q(status=Status.PENDING, blocked=True)),
            models.Index(fields=["id"], name="task_unheeded", condition=Q(
                cancel_requested_at__isnull=False, status__in=[Status.PENDING, Status.WAITING])),
            models.Index(fields=["queue", "rung_at"], name="task_rung",
                         condition=Q(status=Status.PENDING, rung_at__isnull=False)),
            models.Index(fields=["wake_at"], name="task_to_wake",
                         condition=Q(status=Status.WAITING, wake_at__isnull=False)),
            models.Index(fields=["id"], name="task_running", condition=Q(status=Status.RUNNING)),
            models.Index(fields=["name"], name="task_named", opclasses=["varchar_pattern_ops"], condition=~Q(name="")),
            GinIndex(OpClass(F("metadata"), name="jsonb_path_ops"), name="task_metadata"),
        ]  # fmt: skip
        permissions = [
            ("cancel_task", "Can cancel task"), ("retry_task", "Can retry task"), ("resume_task", "Can resume task"),
        ]  # fmt: skip
        # What has to hold between the columns is checked by a trigger, `task_is_sound` (migration 0008).

    def __str__(self) -> str:
        return self.id

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


class Step(models.Model):
    """One model call or one tool call of a task, journaled: `started` before it is made, its end after."""

    # First what never changes: a row that is rewritten is logged from its first changed column on. The statement that
    # writes steps and events hangs on the task's row: the database need not look it up again.
    seq = models.IntegerField()
    kind = models.CharField(max_length=4, choices=StepKind)
    name = models.CharField(max_length=200)
    call_id = models.CharField(max_length=200, blank=True, default="")  # of the tool request it answers
    input: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    started_at = models.DateTimeField()
    task = models.ForeignKey(
        Task, on_delete=models.CASCADE, related_name="steps", db_index=False, db_constraint=False
    )
    attempt = models.IntegerField()  # of the task, when this step was last started
    status = models.CharField(max_length=8, choices=StepStatus, default=StepStatus.STARTED)
    summary = models.CharField(max_length=200, blank=True, default="")
    output: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    error = models.TextField(null=True, blank=True)  # noqa: DJ001
    model = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=20, decimal_places=10, null=True, blank=True, default=Decimal(0))
    attempts: models.JSONField[list[Any], list[Any]] = models.JSONField(default=list)
    simulated = models.BooleanField(default=False)
    seconds = models.FloatField(null=True, blank=True)
    repeat_allowed = models.BooleanField(default=False)  # a person said that an unknown call may be made again

    class Meta:
        ordering = ["task", "seq"]
        indexes = [
            # Not by status: an index on a column that each step changes costs every update its place in the page.
            models.Index(fields=["-id"], name="step_trouble", condition=Q(error__isnull=False)),
        ]  # fmt: skip
        constraints = [models.UniqueConstraint(fields=["task", "seq"], name="step_once")]

    def __str__(self) -> str:
        return f"{self.task_id}:{self.seq}"


class Event(models.Model):
    """One entry of a task's append-only history; `seq` runs from 1 without gaps, drawn with the task's own row."""

    pk = models.CompositePrimaryKey("task_id", "seq")
    task = models.ForeignKey(
        Task, on_delete=models.CASCADE, related_name="events", db_index=False, db_constraint=False
    )
    seq = models.IntegerField()
    type = models.CharField(max_length=24, choices=EventType)
    at = models.DateTimeField()
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)

    class Meta:
        ordering = ["task", "seq"]

    def __str__(self) -> str:
        return f"{self.task_id}#{self.seq} {self.type}"


class Dependency(models.Model):
    """`task` starts when `on` has completed, and fails when `on` ended otherwise."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependencies", db_index=False)
    on = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependents")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["task", "on"], name="dependency_once")]

    def __str__(self) -> str:
        return f"{self.task_id} after {self.on_id}"


class Worker(models.Model):
    """A worker process: one row, rewritten at each heartbeat, forgotten a day after the last."""

    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    queues: ArrayField[list[str], list[str]] = ArrayField(models.CharField(max_length=64))
    slots = models.PositiveIntegerField()
    in_flight = models.PositiveIntegerField(default=0)
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A consumer's `Idempotency-Key`, bound to the body it came with and the task it made."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    body_digest = models.CharField(max_length=64)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["api_key", "key"], name="idempotency_once")]

    def __str__(self) -> str:
        return self.key
