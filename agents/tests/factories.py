"""Agents for tests, made as `agents.versions` makes them: a row and its first version."""
from __future__ import annotations

import factory

from agents.models import Agent, AgentVersion


class AgentFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Agent

    slug = factory.Sequence(lambda n: f"agent-{n}")


class AgentVersionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = AgentVersion

    agent = factory.SubFactory(AgentFactory)
    version = 1
    config = factory.LazyFunction(lambda: {"model": "scripted/echo"})
    created_by = "test"
