"""Tasks that hang on others: freed, failed, cancelled with them, also after a death in between."""
from __future__ import annotations

from typing import Any

import pytest

from agents import versions
from tasks import ancestry, dependents, lifecycle, sweep
from tasks.errors import SubmissionInvalid
from tasks.execution import execute
from tasks.lifecycle import Submission
from tasks.models import ApiKey, Task
from tasks.states import Status
from tasks.tests.factories import ApiKeyFactory, TaskFactory
from tasks.tests.test_moves import force

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def echo() -> str:
    return versions.create("echo", {"model": "scripted/echo"}, by="test").slug


def submit(agent: str, **fields: Any) -> Task:
    return lifecycle.submit(Submission(agent=agent, input_data={"prompt": "hi"}, **fields))[0]


def test_a_task_starts_when_all_it_depends_on_has_completed(echo: str) -> None:
    first, second = submit(echo), submit(echo)
    after = submit(echo, depends_on=[first.id, second.id])
    assert after.blocked

    execute(first.id, "w")
    assert Task.objects.get(id=after.id).blocked
    execute(second.id, "w")
    assert not Task.objects.get(id=after.id).blocked
    execute(after.id, "w")
    assert Task.objects.get(id=after.id).status == "completed"


def test_a_dependency_that_has_completed_already_blocks_nothing(echo: str) -> None:
    first = submit(echo)
    execute(first.id, "w")
    after = submit(echo, depends_on=[first.id])
    assert not Task.objects.get(id=after.id).blocked


def test_one_failed_dependency_fails_the_whole_chain_behind_it(echo: str) -> None:
    first = submit(echo)
    second = submit(echo, depends_on=[first.id])
    third = submit(echo, depends_on=[second.id])

    lifecycle.cancel(first.id, by="test")

    for task, on in ((second, first), (third, second)):
        task.refresh_from_db()
        assert (task.status, task.error_code) == ("failed", "dependency_failed")
        assert on.id in (task.error_message or "")


def test_the_sweeper_settles_what_a_death_left_between_two_tasks(echo: str, settings: Any) -> None:
    settings.WORKER_QUEUES = []
    done, lost = submit(echo), submit(echo)
    freed, failed = submit(echo, depends_on=[done.id]), submit(echo, depends_on=[lost.id])
    force(done, Status.COMPLETED)
    force(lost, Status.FAILED)

    sweep.sweep()

    assert not Task.objects.get(id=freed.id).blocked
    assert Task.objects.get(id=failed.id).error_code == "dependency_failed"


def test_cancelling_a_parent_cancels_its_children_and_theirs(echo: str) -> None:
    parent = submit(echo)
    child = submit(echo, parent_task_id=parent.id)
    grandchild = submit(echo, parent_task_id=child.id)
    lifecycle.cancel(parent.id, by="test")
    assert {Task.objects.get(id=task.id).status for task in (child, grandchild)} == {"cancelled"}


def test_the_sweeper_cancels_children_that_a_death_left(echo: str, settings: Any) -> None:
    settings.WORKER_QUEUES = []
    parent = submit(echo)
    child = submit(echo, parent_task_id=parent.id)
    Task.objects.filter(id=parent.id).update(cancel_requested_at=parent.created_at)
    sweep.sweep()
    assert Task.objects.get(id=child.id).status == "cancelled"


def test_another_consumers_task_is_an_unknown_task(echo: str) -> None:
    key: ApiKey = ApiKeyFactory()
    theirs = TaskFactory(api_key=ApiKeyFactory())
    with pytest.raises(SubmissionInvalid) as refused:
        submit(echo, api_key=key, depends_on=[theirs.id], parent_task_id=theirs.id)
    assert [problem.pointer for problem in refused.value.problems] == ["/depends_on/0", "/parent_task_id"]


def test_a_parent_that_has_ended_takes_no_children(echo: str) -> None:
    parent = submit(echo)
    lifecycle.cancel(parent.id, by="test")
    with pytest.raises(SubmissionInvalid) as refused:
        submit(echo, parent_task_id=parent.id)
    assert refused.value.problems[0].code == "parent_ended"


def test_a_chain_of_parents_ends_before_the_limit_of_its_root_is_out_of_sight(echo: str) -> None:
    """Given a hundred tasks above it, then a task still draws from the root; one more is refused."""
    chain = [submit(echo, limits={"max_cost_usd": "1"})]
    while len(chain) < 101:
        chain.append(TaskFactory(parent=chain[-1], agent=chain[0].agent, version=chain[0].version))
    assert chain[0].id in ancestry.limits_above(chain[-2].id)
    assert submit(echo, parent_task_id=chain[-2].id).parent_id == chain[-2].id
    with pytest.raises(SubmissionInvalid) as refused:
        submit(echo, parent_task_id=chain[-1].id)
    assert [(problem.pointer, problem.code) for problem in refused.value.problems] == [("/parent_task_id", "too_deep")]


def test_settling_a_task_that_nothing_hangs_on_is_one_query(echo: str, django_assert_num_queries: Any) -> None:
    task = submit(echo)
    with django_assert_num_queries(1):
        dependents.settle(task.id)
