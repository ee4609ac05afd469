"""Budgets, prices and usage as the REST API reads and shows them."""
from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Model
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents.models import Agent
from agents.requests import Instant, StrictSerializer, Text, Truth, refuse
from agents.strict import money
from llm import accounts, providers
from llm.budget import PERIODS, SCOPES
from llm.errors import UnknownModel
from llm.models import Budget, Price
from tasks.models import ApiKey, Task
from tasks.serializers import Amount, Money
from tasks.usage import FIGURES, Row

# Whose a budget can be: the model, and how its scope_id names one.
OWNERS: dict[str, tuple[type[Model], str]] = {"agent": (Agent, "slug"), "api_key": (ApiKey, "pk"), "task": (Task, "pk")}
LIMIT = money(Decimal(0))
ID = re.compile(r"[1-9]\d{0,17}\Z", re.ASCII)


@extend_schema_field(dict(LIMIT.schema))
class Limit(Amount):
    """As `Amount`; 0 is one, too."""

    rule = LIMIT


class BudgetSerializer(serializers.Serializer[Budget]):
    """A budget, and how it stands in the present period (`with_standing` brings that)."""

    id = serializers.IntegerField()
    scope = serializers.ChoiceField(list(SCOPES))
    scope_id = serializers.CharField(help_text="The agent's slug, the API key's id, the task's id; empty for fleet.")
    period = serializers.ChoiceField(list(PERIODS))
    limit_usd = Money()
    enabled = serializers.BooleanField()
    spent_usd = Money(allow_null=True, help_text="Of the present period; null while it is not enabled.")
    reserved_usd = Money(allow_null=True, help_text="Held by calls under way; null while it is not enabled.")
    created_at = Instant()
    updated_at = Instant()


def with_standing(budgets: Sequence[Budget]) -> Sequence[Budget]:
    """Each budget with `spent_usd` and `reserved_usd` of its present period. One query."""
    found = accounts.standings([(row.scope, row.scope_id, row.period) for row in budgets if row.enabled])
    for row in budgets:
        line = found.get((row.scope, row.scope_id, row.period))
        row.spent_usd = line.spent_usd if line else None  # type: ignore[attr-defined]
        row.reserved_usd = line.reserved_usd if line else None  # type: ignore[attr-defined]
    return budgets


class NewBudgetSerializer(StrictSerializer):
    scope = serializers.ChoiceField(list(SCOPES))
    scope_id = Text(required=False, allow_blank=True, max_length=100, help_text="Whose it is; leave it out for fleet.")
    period = serializers.ChoiceField(list(PERIODS), help_text="Of UTC's calendar.")
    limit_usd = Limit()
    enabled = Truth(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        scope, owner = attrs["scope"], attrs.setdefault("scope_id", "")
        if problem := owner_problem(scope, owner):
            refuse("scope_id", *problem)
        return attrs


def owner_problem(scope: str, owner: str) -> tuple[str, str] | None:
    """What is wrong with whose a budget is to be: a code and a sentence. One query."""
    if scope == "fleet":
        return ("not_with_scope", "The fleet's budget is nobody else's; leave scope_id out.") if owner else None
    model, field = OWNERS[scope]
    if not owner:
        return "required", f"Say whose: {'a slug' if scope == 'agent' else 'an id'}."
    well_formed = scope != "api_key" or ID.match(owner)
    if well_formed and model._default_manager.filter(**{field: owner}).exists():
        return None
    name = SCOPES[scope] if scope == "api_key" else SCOPES[scope].lower()
    return f"unknown_{scope}", f"There is no {name} {owner!r}."


class BudgetPatchSerializer(StrictSerializer):
    limit_usd = Limit(required=False)
    enabled = Truth(required=False)


class PriceSerializer(serializers.Serializer[Price]):
    model = serializers.CharField()
    input_usd_per_million = Money(source="input_usd")
    output_usd_per_million = Money(source="output_usd")
    cached_usd_per_million = Money(source="cached_usd", allow_null=True, help_text="Null: as other input.")
    cache_write_usd_per_million = Money(source="cache_write_usd", allow_null=True, help_text="Null: as other input.")
    created_at = Instant()
    updated_at = Instant()


class PricePatchSerializer(StrictSerializer):
    """US dollars for a million tokens."""

    input_usd_per_million = Limit(source="input_usd", required=False)
    output_usd_per_million = Limit(source="output_usd", required=False)
    cached_usd_per_million = Limit(source="cached_usd", required=False, allow_null=True)
    cache_write_usd_per_million = Limit(source="cache_write_usd", required=False, allow_null=True)


class NewPriceSerializer(PricePatchSerializer):
    model = Text(max_length=providers.MODEL_CHARS, help_text="provider/model, as agents name it.")
    input_usd_per_million = Limit(source="input_usd")
    output_usd_per_million = Limit(source="output_usd")

    def validate_model(self, model: str) -> str:
        try:
            return "/".join(providers.check(model))
        except UnknownModel as error:
            raise serializers.ValidationError(str(error), "unknown_model") from None


class UsageRowSerializer(serializers.Serializer[Row]):
    """The figures of one group; of `day`, `agent`, `model`, `provider`, `api_key`, `task` those it was grouped by."""

    day = serializers.CharField(required=False, help_text="YYYY-MM-DD in UTC.")
    agent = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    api_key = serializers.CharField(required=False, help_text="The key's id; empty for what no key submitted.")
    task = serializers.CharField(required=False)
    calls = serializers.IntegerField()
    errors = serializers.IntegerField(help_text="Calls that failed for good.")  # type: ignore[assignment]
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Of the input tokens, read from the provider's cache.")
    cost_usd = Money(allow_null=True, help_text="Of the calls whose cost is known; null when no call's is.")
    unpriced_calls = serializers.IntegerField(help_text="Calls whose cost is not known.")
    p50_seconds = serializers.FloatField(allow_null=True)
    p95_seconds = serializers.FloatField(allow_null=True)

    def to_representation(self, instance: Row) -> dict[str, Any]:
        keys = {name: str(value) for name, value in instance.keys.items()}
        cost = None if instance.cost_usd is None else Money().to_representation(instance.cost_usd)
        return keys | {name: getattr(instance, name) for name in FIGURES} | {"cost_usd": cost}
