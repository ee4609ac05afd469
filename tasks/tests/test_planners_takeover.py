"""The planners after a takeover: what was decided before its worker died is decided again."""
from __future__ import annotations

from typing import Any

import pytest

from tasks.models import Step
from tasks.tests.test_planners import ADD, PLAN, REVISED, agent, call, steps
from tasks.tests.walking import ended, submit
from tasks.tests.workers import running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SCRIPTS: dict[str, tuple[list[Any], int]] = {
    "react": (["asdf", f"{ADD}\nObservation: 99", "Final Answer: 8"], 4),
    "plan_execute": ([PLAN, call(a="five", b=3), REVISED, call(a=5, b=3), "8"], 7),
}
"""The script, and the step that plays its last entry."""


@pytest.mark.parametrize("planner", SCRIPTS)
def test_a_task_whose_worker_dies_goes_on_as_it_would_have(planner: str) -> None:
    (*script, answer), last = SCRIPTS[planner]
    slug = agent(planner.replace("_", "-"), *script, {"text": answer, "delay_seconds": 3}, planner=planner)
    task = submit(slug)
    with running_worker() as first:
        until(lambda: Step.objects.filter(task=task, seq=last, status="started").exists(), 40)
        first.kill()
    with running_worker():
        task = ended(task)

    assert (task.status, task.attempt, task.result) == ("completed", 2, {"agent_outcome": "8"})
    assert [step.seq for step in steps(task)] == list(range(1, last + 1))
