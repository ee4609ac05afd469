"""What the tests of the walk share: a script, a submission, the wait for the end."""
from __future__ import annotations

from typing import Any

from tasks import lifecycle
from tasks.lifecycle import Submission
from tasks.models import Task
from tasks.tests.workers import until

ARITHMETIC = [
    {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}]},
    {"text": "The sum is 8, no error, nothing failed."},
]


def submit(agent: str, **fields: Any) -> Task:
    task, _ = lifecycle.submit(Submission(agent=agent, **({"input_data": {"prompt": "add 5 and 3"}} | fields)))
    return task


def ended(task: Task) -> Task:
    def final() -> Task | None:
        row = Task.objects.get(id=task.id)
        return row if row.is_final else None

    return until(final, 40)
