"""Agents and their immutable versions."""
from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z",
    "Use 1 to 64 lower-case letters, digits, hyphens and underscores, starting and ending with a letter or digit.",
)


class Agent(models.Model):
    """A named configuration. `version` is the number of its current AgentVersion; `agents.versions` changes both."""

    slug = models.CharField(max_length=64, unique=True, validators=[SLUG])
    description = models.TextField(blank=True, default="", max_length=4000)
    version = models.PositiveIntegerField(default=1, editable=False)
    archived = models.BooleanField(default=False, help_text="Archived agents take no new tasks; their history stays.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["slug"]
        constraints = [models.CheckConstraint(condition=models.Q(version__gte=1), name="agent_version_from_1")]

    def __str__(self) -> str:
        return f"{self.slug}@{self.version}"


class AgentVersion(models.Model):
    """An immutable snapshot of an agent's configuration; the database refuses to change one."""

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    config: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    note = models.CharField(max_length=500, blank=True, default="")
    rollback_of = models.PositiveIntegerField(null=True, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["agent", "version"], name="agentversion_once"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="agentversion_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.agent.slug}@{self.version}"
