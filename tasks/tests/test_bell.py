"""The doorbell: which rows are rung, in what order, how many, and what Flower is shown."""
from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from agents.tests.factories import AgentVersionFactory
from tasks import bell
from tasks.models import Task
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "bell-test"


@pytest.fixture
def broker() -> Any:
    client = redis.Redis.from_url(settings.CELERY_BROKER_URL)
    client.delete(QUEUE)
    yield client
    client.delete(QUEUE)
    client.close()


def messages(broker: redis.Redis) -> list[dict[str, Any]]:
    """What lies in the queue, first sent first."""
    return [json.loads(raw) for raw in reversed(broker.lrange(QUEUE, 0, -1))]


def rung_ids(broker: redis.Redis) -> list[str]:
    return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages(broker)]


def test_higher_priority_is_rung_first_then_the_older_task(broker: redis.Redis) -> None:
    old, new = TaskFactory(queue=QUEUE), TaskFactory(queue=QUEUE)
    urgent = TaskFactory(queue=QUEUE, priority=5)

    assert bell.ring(QUEUE) == 3

    assert rung_ids(broker) == [urgent.id, old.id, new.id]


def test_a_task_is_rung_once_until_it_is_rung_anew(broker: redis.Redis) -> None:
    TaskFactory(queue=QUEUE)
    assert (bell.ring(QUEUE), bell.ring(QUEUE)) == (1, 0)
    assert broker.llen(QUEUE) == 1


def test_a_task_whose_time_has_not_come_is_not_rung(broker: redis.Redis) -> None:
    TaskFactory(queue=QUEUE, scheduled_at=timezone.now() + timedelta(hours=1))
    due = TaskFactory(queue=QUEUE, scheduled_at=timezone.now() - timedelta(seconds=1))
    bell.ring(QUEUE)
    assert rung_ids(broker) == [due.id]


def test_a_backlog_never_means_more_bells_than_there_are_slots(broker: redis.Redis, settings: Any) -> None:
    settings.WORKER_CONCURRENCY = 3
    for _ in range(5):
        TaskFactory(queue=QUEUE)

    bell.ring(QUEUE)
    bell.ring(QUEUE)
    assert broker.llen(QUEUE) == 3

    Task.objects.filter(id=rung_ids(broker)[0]).update(rung_at=None, status="cancelled", completed_at=timezone.now())
    bell.ring(QUEUE)
    assert broker.llen(QUEUE) == 4


def test_flower_sees_the_task_its_agent_and_its_name_but_no_word_of_the_prompt(broker: redis.Redis) -> None:
    version = AgentVersionFactory(agent__slug="clerk", version=3)
    task = TaskFactory(queue=QUEUE, version=version, name="march", input_data={"prompt": "a secret"})

    bell.ring(QUEUE)

    (message,) = messages(broker)
    assert message["headers"]["argsrepr"] == f"task={task.id} agent=clerk@3 name=march"
    assert "secret" not in json.dumps(message) + base64.b64decode(message["body"]).decode()


def test_when_the_broker_is_down_the_task_is_left_to_be_rung_again(settings: Any) -> None:
    task = TaskFactory(queue=QUEUE)
    settings.CELERY_APPLICATION = "tasks.tests.dead_broker.app"
    bell._celery.cache_clear()
    try:
        with pytest.raises(OperationalError):
            bell.ring(QUEUE)
    finally:
        bell._celery.cache_clear()
    assert Task.objects.get(id=task.id).rung_at is None
