"""What can go wrong when a caller asks something of a task."""
from __future__ import annotations

from agents.errors import FieldProblem


class TaskError(Exception):
    """The task cannot do that."""

    code = "task_error"

    def __init__(self, message: str = "", *, problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.problems = problems


class UnknownTask(TaskError):
    """No task has that id."""

    code = "not_found"


class SubmissionInvalid(TaskError):
    """The submission is not valid; `problems` holds every reason."""

    code = "invalid"


class AlreadyFinal(TaskError):
    """The task has already ended."""

    code = "already_final"


class NotFinal(TaskError):
    """The task has not ended yet; cancel it first."""

    code = "not_final"


class IdempotencyConflict(TaskError):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_conflict"


class NotWaiting(TaskError):
    """The task is not waiting for anything."""

    code = "not_waiting"


class WrongKind(TaskError):
    """The task waits for something else."""

    code = "wrong_kind"


class BudgetExists(TaskError):
    """There is a budget of that scope and period."""

    code = "budget_exists"


class PriceExists(TaskError):
    """The model has a price."""

    code = "price_exists"


class StillNeeded(TaskError):
    """Another task that has not ended depends on this one."""

    code = "still_needed"
