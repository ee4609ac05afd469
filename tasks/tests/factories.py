"""Keys and tasks for tests."""
from __future__ import annotations

import factory

from agents.tests.factories import AgentVersionFactory
from tasks.models import DEFAULT_SCOPES, ApiKey, Task


class ApiKeyFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = ApiKey

    name = "test"
    prefix = factory.Sequence(lambda n: f"{n:08d}")
    digest = "0" * 64
    scopes = factory.LazyFunction(lambda: list(DEFAULT_SCOPES))


class TaskFactory(factory.django.DjangoModelFactory):
    """A pending task as `lifecycle.submit` leaves it, but for its first event."""

    class Meta:
        model = Task

    version = factory.SubFactory(AgentVersionFactory)
    agent = factory.SelfAttribute("version.agent")
    api_key = factory.SubFactory(ApiKeyFactory)
    input_data = factory.LazyFunction(lambda: {"prompt": "hello"})
