"""Agents and their versions as the REST API reads and shows them."""
from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents import config
from agents.models import AgentVersion
from agents.requests import Instant, JsonObject, StrictSerializer, Text, Truth, Whole


@extend_schema_field(dict(config.CONFIG_SCHEMA))
class ConfigField(JsonObject):
    """A configuration; `agents.config` checks it."""


class AgentSerializer(serializers.Serializer[AgentVersion]):
    """An agent, read from its current version."""

    slug = serializers.CharField(source="agent.slug")
    description = serializers.CharField(source="agent.description")
    version = serializers.IntegerField()
    config = ConfigField()
    archived = serializers.BooleanField(source="agent.archived")
    created_at = Instant(source="agent.created_at")
    updated_at = Instant(source="agent.updated_at")


class VersionSerializer(serializers.Serializer[AgentVersion]):
    version = serializers.IntegerField()
    config = ConfigField()
    note = serializers.CharField()
    rollback_of = serializers.IntegerField(allow_null=True)
    created_at = Instant()
    created_by = serializers.CharField()


class NewAgentSerializer(StrictSerializer):
    slug = Text(max_length=64)
    description = Text(required=False, allow_blank=True, max_length=4000)
    config = ConfigField(required=False)
    note = Text(required=False, allow_blank=True, max_length=500)


class AgentPatchSerializer(StrictSerializer):
    """A JSON merge patch (RFC 7396), and a note for the version that it publishes."""

    description = Text(required=False, allow_blank=True, max_length=4000)
    archived = Truth(required=False)
    config = JsonObject(required=False, help_text="Merged key by key; null takes a key away.")
    note = Text(required=False, allow_blank=True, max_length=500)


class RollbackSerializer(StrictSerializer):
    version = Whole(min_value=1, max_value=2**31 - 1)
    note = Text(required=False, allow_blank=True, max_length=500)


def checked(serializer: type[StrictSerializer], data: Any) -> dict[str, Any]:
    """The body as the serializer reads it. Raises ValidationError."""
    body = serializer(data=data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)
