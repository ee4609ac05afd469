"""Whose key a model is called with, what models cost, what may be spent, and what was.

Tasks, agents and API keys are named by plain texts: nothing here knows them.
"""
from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from llm import key_reference, masking, sealing
from llm.budget import PERIODS, SCOPES
from llm.providers import MODEL_CHARS

LABEL = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z",
    "Use 1 to 64 lower-case letters, digits, hyphens and underscores, starting and ending with a letter or digit.",
)
NOT_NEGATIVE = [MinValueValidator(Decimal(0))]


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


def dollars(**options: Any) -> models.DecimalField:
    """US dollars to ten places: a token of the cheapest models costs less than a millionth."""
    return models.DecimalField(max_digits=20, decimal_places=10, validators=NOT_NEGATIVE, **options)


class Price(models.Model):
    """What a model costs here, in US dollars for a million tokens, whatever the bundled price map says.

    Without `cached_usd` and `cache_write_usd` the tokens of a prompt cache cost what other input does.
    """

    model = models.CharField(
        max_length=MODEL_CHARS, unique=True, help_text="provider/model as agents name it, such as openai/gpt-4o-mini."
    )
    input_usd = dollars(verbose_name="input")
    output_usd = dollars(verbose_name="output")
    cached_usd = dollars(verbose_name="read from the cache", null=True, blank=True)
    cache_write_usd = dollars(verbose_name="written to the cache", null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["model"]

    def __str__(self) -> str:
        return self.model


class Budget(models.Model):
    """How much may be spent in a scope and a period of UTC's calendar, by PostgreSQL's clock."""

    scope = models.CharField(max_length=8, choices=list(SCOPES.items()))
    scope_id = models.CharField(max_length=100, blank=True, default="")
    period = models.CharField(max_length=8, choices=list(PERIODS.items()))
    limit_usd = dollars(verbose_name="limit")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id", "period"], name="budget_once"),
            models.CheckConstraint(condition=Q(scope__in=list(SCOPES)), name="budget_scope_known"),
            models.CheckConstraint(condition=Q(period__in=list(PERIODS)), name="budget_period_known"),
            models.CheckConstraint(condition=Q(limit_usd__gte=0), name="budget_not_negative"),
            models.CheckConstraint(
                condition=Q(scope="fleet", scope_id="") | (~Q(scope="fleet") & ~Q(scope_id="")),
                name="budget_of_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id} per {self.period}".replace("  ", " ")


class Account(models.Model):
    """What one budget has spent and holds in one period. Opened by the first call, with what the ledger has of it.

    `limit_usd` is the limit that a task brings along itself (`limits.max_cost_usd`), with what was added to it;
    null in the accounts of Budget rows, whose limit is read from the row.
    """

    scope = models.CharField(max_length=8)
    scope_id = models.CharField(max_length=100)
    period = models.CharField(max_length=8)
    starts_at = models.DateTimeField()
    limit_usd = dollars(null=True)
    spent_usd = dollars(default=Decimal(0))
    reserved_usd = dollars(default=Decimal(0))
    warned = models.BooleanField(default=False)  # that 80 % are spent
    opened_at = models.DateTimeField(default=timezone.now)
    settle_at = models.DateTimeField(null=True)  # when `llm.settling` compares it with the ledger next

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id", "period", "starts_at"], name="account_once"),
            models.CheckConstraint(condition=Q(spent_usd__gte=0, reserved_usd__gte=0), name="account_not_negative"),
        ]
        indexes = [
            models.Index(fields=["settle_at"], name="account_to_settle", condition=Q(settle_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id} per {self.period} from {self.starts_at:%Y-%m-%d}"


class Reservation(models.Model):
    """What a call under way may cost at most, held in every account it is charged to.

    Whoever deletes the row gives the amount back: the end of the call, or the sweeper when its attempt is over.
    """

    task_id = models.CharField(max_length=40)
    attempt = models.PositiveIntegerField()
    step = models.PositiveIntegerField()
    amount_usd = dollars()
    accounts: ArrayField[list[int], list[int]] = ArrayField(models.BigIntegerField())
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["task_id", "attempt", "step"], name="reservation_once")]

    def __str__(self) -> str:
        return f"{self.task_id}:{self.step}"


class LedgerEntry(models.Model):
    """One model call that has ended, with all its attempts. The database refuses to change or delete one.

    `cost_usd` is null when the price or the count is not known. `charged_usd` is what budgets were charged: the
    cost, or all that was reserved where the cost is not known.
    """

    at = models.DateTimeField()
    task_id = models.CharField(max_length=40)
    ancestors: ArrayField[list[str], list[str]] = ArrayField(models.CharField(max_length=40), default=list)
    step = models.IntegerField()
    attempt = models.IntegerField()
    agent = models.CharField(max_length=64)
    api_key = models.CharField(max_length=20, blank=True)
    model = models.CharField(max_length=MODEL_CHARS)
    provider = models.CharField(max_length=MODEL_CHARS)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cost_usd = dollars(null=True)
    charged_usd = dollars(null=True)
    outcome = models.CharField(max_length=24)  # "ok", or the error code
    seconds = models.FloatField()
    simulated = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "ledger entries"
        indexes = [
            BrinIndex(fields=["at"], name="ledger_by_time"),  # rows are appended in its order
            models.Index(fields=["task_id"], name="ledger_of_task"),
            GinIndex(fields=["ancestors"], name="ledger_of_parent", condition=~Q(ancestors=[])),
        ]

    def __str__(self) -> str:
        return f"{self.task_id}:{self.step} {self.model}"
