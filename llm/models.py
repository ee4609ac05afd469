"""Providers' credentials as rows: where a provider is called and with which key, chosen per agent by label."""
from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from llm import key_reference, masking, sealing

LABEL = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z",
    "Use 1 to 64 lower-case letters, digits, hyphens and underscores, starting and ending with a letter or digit.",
)


class Provider(models.Model):
    """A credential: `label` is what an agent names. Its key is sealed, or stands in the workers' environment.

    `last_test` is {"at", "ok", "latency_ms", "error", "model"} of the last test, or None.
    """

    label = models.CharField(max_length=64, unique=True, validators=[LABEL])
    provider = models.CharField(max_length=50)
    base_url = models.CharField(max_length=2000, blank=True, default="")
    key_variable = models.CharField(max_length=120, blank=True, default="", editable=False)
    key_sealed = models.TextField(blank=True, default="", editable=False)
    key_last = models.CharField(max_length=key_reference.LAST, blank=True, default="", editable=False)
    key_changed_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(default=True)
    last_test: models.JSONField[Any, Any] = models.JSONField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["label"]
        constraints = [
            models.CheckConstraint(condition=Q(key_variable="") | Q(key_sealed=""), name="provider_one_key"),
        ]

    def __str__(self) -> str:
        return self.label

    def take_key(self, key: str) -> None:
        """Put a key, or `env:NAME`, in the place of the one before; '' takes it away. Saves nothing.

        `key` has been checked by `llm.key_reference.problem`.
        """
        variable = key_reference.variable_of(key)
        masking.remember("" if variable else key)
        self.key_variable = variable
        self.key_sealed = sealing.seal(key) if key and not variable else ""
        self.key_last = "" if variable else key_reference.last_of(key)
        self.key_changed_at = timezone.now()

    @property
    def has_key(self) -> bool:
        return bool(self.key_variable or self.key_sealed)

    @property
    def shown_key(self) -> str:
        """`env:NAME`, `…` with the last four characters, or '' when there is none."""
        if self.key_variable:
            return f"{key_reference.PREFIX}{self.key_variable}"
        return f"…{self.key_last}" if self.key_sealed else ""
