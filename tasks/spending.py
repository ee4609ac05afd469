"""Money over REST: budgets, the prices of models, and what was used."""
from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from agents.requests import StrictView, refuse
from agents.serializers import checked
from llm import accounts
from llm.models import Budget, LedgerEntry, Price
from tasks.errors import BudgetExists, PriceExists
from tasks.filters import InstantField, ValuesField
from tasks.keys import allows
from tasks.spending_serializers import (
    BudgetPatchSerializer,
    BudgetSerializer,
    NewBudgetSerializer,
    NewPriceSerializer,
    PricePatchSerializer,
    PriceSerializer,
    UsageRowSerializer,
    with_standing,
)
from tasks.usage import KEYS, Usage
from tasks.views import key_of

ADMIN = ("admin",)


class BudgetList(StrictView, generics.ListAPIView[Budget]):
    """The budgets with what is spent of each, newest first."""

    scopes = {"GET": ADMIN, "POST": ADMIN}
    problems = {"POST": ("409",)}
    serializer_class = BudgetSerializer
    queryset = Budget.objects.all()
    filter_backends = ()

    def paginate_queryset(self, queryset: Any) -> Any:
        return with_standing(super().paginate_queryset(queryset) or [])

    @extend_schema(request=NewBudgetSerializer, responses={201: BudgetSerializer})
    def post(self, request: Request) -> Response:
        """Set a budget. What was spent in the present period before counts."""
        given = checked(NewBudgetSerializer, request.data)
        try:
            with transaction.atomic():
                budget = Budget.objects.create(**given)
        except IntegrityError:
            raise BudgetExists(
                f"There is a budget of that scope for {given['period']!r} already; change its limit instead."
            ) from None
        return shown(budget, status=201)


class BudgetDetail(StrictView, generics.GenericAPIView[Budget]):
    """One budget. Its scope and period do not change; make another one instead."""

    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}
    problems = dict.fromkeys(scopes, ("404",))
    serializer_class = BudgetSerializer
    queryset = Budget.objects.all()
    filter_backends = ()

    def get(self, request: Request, budget_id: int) -> Response:
        return shown(get_object_or_404(Budget, pk=budget_id))

    @extend_schema(request=BudgetPatchSerializer, responses={200: BudgetSerializer})
    def patch(self, request: Request, budget_id: int) -> Response:
        """Change its limit, or switch it on or off; heeded by the next call, switching within a second."""
        given = checked(BudgetPatchSerializer, request.data)
        with transaction.atomic():
            budget = get_object_or_404(Budget.objects.select_for_update(), pk=budget_id)
            change(budget, given)
        return shown(budget)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, budget_id: int) -> Response:
        """Remove it; what waits for it goes on."""
        get_object_or_404(Budget, pk=budget_id).delete()
        return Response(status=204)


def shown(budget: Budget, status: int = 200) -> Response:
    """The budget as it stands, its accounts opened so that the ledger's past counts."""
    if budget.enabled:
        accounts.open_account(budget.scope, budget.scope_id)
    headers = {"Location": f"/api/v1/budgets/{budget.pk}/"} if status == 201 else {}
    return Response(BudgetSerializer(with_standing([budget])[0]).data, status=status, headers=headers)


def change(row: Budget | Price, given: dict[str, Any]) -> None:
    for name, value in given.items():
        setattr(row, name, value)
    row.save()


class PriceList(StrictView, generics.ListAPIView[Price]):
    """Prices that were set here and come before those of the bundled map, newest first."""

    scopes = {"GET": ADMIN, "POST": ADMIN}
    problems = {"POST": ("409",)}
    serializer_class = PriceSerializer
    queryset = Price.objects.all()
    filter_backends = ()

    @extend_schema(request=NewPriceSerializer, responses={201: PriceSerializer})
    def post(self, request: Request) -> Response:
        """Set what a model costs; heeded by every worker within a second."""
        given = checked(NewPriceSerializer, request.data)
        try:
            with transaction.atomic():
                price = Price.objects.create(**given)
        except IntegrityError:
            raise PriceExists(f"{given['model']!r} has a price already; change it instead.") from None
        headers = {"Location": f"/api/v1/prices/{price.model}/"}
        return Response(PriceSerializer(price).data, status=201, headers=headers)


class PriceDetail(StrictView, generics.GenericAPIView[Price]):
    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}
    problems = dict.fromkeys(scopes, ("404",))
    serializer_class = PriceSerializer
    queryset = Price.objects.all()
    filter_backends = ()

    def get(self, request: Request, model: str) -> Response:
        """What was set for this model."""
        return Response(PriceSerializer(get_object_or_404(Price, model=model)).data)

    @extend_schema(request=PricePatchSerializer, responses={200: PriceSerializer})
    def patch(self, request: Request, model: str) -> Response:
        """Change it; what was charged before stays."""
        given = checked(PricePatchSerializer, request.data)
        with transaction.atomic():
            price = get_object_or_404(Price.objects.select_for_update(), model=model)
            change(price, given)
        return Response(PriceSerializer(price).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, model: str) -> Response:
        """Take it away: the bundled map's price holds again, if it has one."""
        get_object_or_404(Price, model=model).delete()
        return Response(status=204)


FILTERS: dict[str, ValuesField | InstantField] = {
    "group_by": ValuesField(allowed=tuple(KEYS), required=False), "agent": ValuesField(required=False),
    "model": ValuesField(required=False), "created_after": InstantField(required=False),
    "created_before": InstantField(required=False),
}  # fmt: skip
_LISTED = {"type": "string", "pattern": "^[^,]+(,[^,]+)*$"}
_TIME = {"type": "string", "format": "date-time"}


class UsageList(StrictView, generics.ListAPIView[LedgerEntry]):
    """What models were used for, from the ledger."""

    scopes = {"GET": ("tasks:read", "tasks:write", "tasks:read_all")}
    serializer_class = UsageRowSerializer  # type: ignore[assignment]
    queryset = LedgerEntry.objects.none()
    query_parameters = tuple(FILTERS)
    filter_backends = ()
    page_by = "key"

    def get_queryset(self) -> Any:
        given = {name: cleaned(name, self.request.query_params.get(name)) for name in FILTERS}
        groups = given["group_by"] or ()
        if len(set(groups)) < len(groups):
            refuse("group_by", "repeated", "Name each group once.")
        key = key_of(self.request)
        return Usage(
            group_by=groups, since=given["created_after"], until=given["created_before"],
            agents=given["agent"] or (), models=given["model"] or (),
            api_key=None if allows(key, "tasks:read_all") else str(key.pk),
        )  # fmt: skip

    @extend_schema(
        operation_id="usage_list",
        parameters=[
            OpenApiParameter("group_by", _LISTED, description=f"Of {', '.join(KEYS)}; without any: one total."),
            OpenApiParameter("agent", _LISTED, description="Slugs, separated by commas."),
            OpenApiParameter("model", _LISTED, description="As provider/model, separated by commas."),
            OpenApiParameter("created_after", _TIME, description="Calls from then on; 30 days ago by default."),
            OpenApiParameter("created_before", _TIME, description="Calls before that."),
        ],
    )  # fmt: skip
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Calls, tokens, cost and latency, of the key's own tasks or of all (`tasks:read_all`); newest day first."""
        return super().get(request, *args, **kwargs)


def cleaned(name: str, value: str | None) -> Any:
    """A query parameter as its field reads it. Raises DRF's ValidationError at its name."""
    try:
        return FILTERS[name].clean(value)
    except ValidationError as error:
        refuse(name, str(error.error_list[0].code), error.messages[0])
