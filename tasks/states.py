"""The life of a task: its states, the moves between them, and why a task waits or failed."""
from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    """`MOVES` holds every arrow; a move that is not there does not exist."""

    PENDING = "pending", "Pending"  # → running (claimed), cancelled, failed (late, too many takeovers)
    RUNNING = "running", "Running"  # → completed, failed, cancelled, waiting, pending (released, lease expired)
    WAITING = "waiting", "Waiting"  # → pending (resumed), cancelled, failed
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class WaitingOn(models.TextChoices):
    """What a waiting task waits for."""

    APPROVAL = "approval", "An approval"
    BUDGET = "budget", "Its budget"
    TIMER = "timer", "A timer"
    CHILDREN = "children", "Its child tasks"
    INPUT = "input", "A person"


class ErrorCode(models.TextChoices):
    """Why a task failed."""

    INVALID_AGENT_CONFIG = "invalid_agent_config"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_ERROR = "provider_error"
    RATE_LIMITED = "rate_limited"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTERED = "content_filtered"
    PLANNER_ERROR = "planner_error"
    OUTPUT_INVALID = "output_invalid"
    MAX_STEPS = "max_steps"
    TIMEOUT = "timeout"
    BUDGET_EXCEEDED = "budget_exceeded"
    PERMISSION_DENIED = "permission_denied"
    DEPENDENCY_FAILED = "dependency_failed"
    NONDETERMINISM = "nondeterminism"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.PENDING, Status.WAITING, *FINAL}),
    Status.WAITING: frozenset({Status.PENDING, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class StepKind(models.TextChoices):
    LLM = "llm", "Model call"
    TOOL = "tool", "Tool call"


class StepStatus(models.TextChoices):
    STARTED = "started", "Started"  # → done, failed, unknown
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    UNKNOWN = "unknown", "Unknown"  # → done, failed (a person says what happened)
    DENIED = "denied", "Denied"


class EventType(models.TextChoices):
    TASK_CREATED = "task.created"
    TASK_STARTED = "task.started"
    STEP_STARTED = "step.started"
    STEP_COMPLETED = "step.completed"
    STEP_FAILED = "step.failed"
    STEP_RETRYING = "step.retrying"
    APPROVAL_REQUIRED = "approval.required"
    APPROVAL_DECIDED = "approval.decided"
    MEMORY_RECALLED = "memory.recalled"
    MEMORY_WRITTEN = "memory.written"
    BUDGET_WARNING = "budget.warning"
    TASK_WAITING = "task.waiting"
    TASK_RESUMED = "task.resumed"
    TASK_RECOVERED = "task.recovered"
    TASK_CANCELLING = "task.cancelling"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_CANCELLED = "task.cancelled"
