"""Budgets, prices and the ledger in the admin."""
from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Case, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Now, TruncDay, TruncMonth
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from agents.console import ConsoleAdmin, PeriodFilter, ReadOnlyAdmin, clip, line, moment
from llm import accounts, prices, providers
from llm.budget import shown
from llm.errors import UnknownModel
from llm.models import Account, Budget, LedgerEntry, Price
from tasks.admin.usage import page
from tasks.spending_serializers import owner_problem
from tasks.states import ErrorCode
from tasks.transcript import money, short

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
STARTS = Case(
    When(period="day", then=TruncDay(Now())), When(period="month", then=TruncMonth(Now())), default=Value(EPOCH)
)  # fmt: skip
FULL = Decimal("0.8")


class BudgetForm(forms.ModelForm):
    """Whose, for what period, how much; whose it is has to exist."""

    scope_id = forms.CharField(
        required=False, max_length=100, widget=UnfoldAdminTextInputWidget, label="Whose",
        help_text="The agent's slug, the API key's number (in its page's address), the task's id; empty for the fleet.",
    )  # fmt: skip

    class Meta:
        model = Budget
        fields = ("scope", "scope_id", "period", "limit_usd", "enabled")
        help_texts = {
            "period": "Of UTC's calendar.",
            "limit_usd": "US dollars. A call that does not fit waits; with 0 only free models are called.",
            "enabled": "Switched off, nothing is counted; switched on again, the ledger's past counts.",
        }

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.instance.pk is None and "scope" in given:
            problem = owner_problem(given["scope"], given.get("scope_id", ""))
            if problem:
                self.add_error("scope_id", problem[1])
        return given


@admin.register(Budget)
class BudgetAdmin(ConsoleAdmin):
    """How much may be spent, with how much is."""

    form = BudgetForm
    list_display = ("budget", "shown_limit", "bar", "shown_left", "state")
    list_filter = (("scope", ChoicesDropdownFilter), ("period", ChoicesDropdownFilter))
    search_fields = ("scope_id",)
    sortable_by = ()
    ordering = ("-id",)
    fields = ("scope", "scope_id", "period", "limit_usd", "enabled")
    empty_words = "Add one: for the whole fleet, an agent, an API key or a task, by day, month or in total."

    @display(description="Budget")
    def budget(self, row: Budget) -> SafeString:
        return line(f"{row.get_scope_display()} {row.scope_id if row.scope != 'task' else short(row.scope_id)}".strip())

    @display(description="Limit")
    def shown_limit(self, row: Budget) -> SafeString:
        return line(f"{shown(row.limit_usd)} {row.get_period_display().lower()}")

    @display(description="Spent and held")
    def bar(self, row: Budget) -> SafeString:
        if not row.enabled:
            return line("not counted")
        spent, held = self._used(row)
        used, taken = (share(part, row.limit_usd) for part in (spent, held))
        words = f"{money(spent)} spent" + (f", {money(held)} held" if held else "")
        return format_html(
            '<span class="console-bar{}" title="{}"><i style="width:{}%"></i>'
            '<i class="held" style="width:{}%"></i></span><span class="console-line">{}</span>',
            " full" if used >= FULL else "", words, round(used * 100, 1), round(min(taken, 1 - used) * 100, 1), words,
        )  # fmt: skip

    @display(description="Left")
    def shown_left(self, row: Budget) -> SafeString:
        spent, held = self._used(row)
        return line(money(max(Decimal(0), row.limit_usd - spent - held)) if row.enabled else "—")

    @display(description="State", label={"in force": "success", "off": "", "spent": "danger"})
    def state(self, row: Budget) -> str:
        if not row.enabled:
            return "off"
        return "spent" if self._used(row)[0] >= row.limit_usd else "in force"

    def _used(self, row: Budget) -> tuple[Decimal, Decimal]:
        """Spent and held in the present period, as the list's query brought it."""
        return getattr(row, "spent", None) or Decimal(0), getattr(row, "held", None) or Decimal(0)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        account = Account.objects.filter(
            scope=OuterRef("scope"), scope_id=OuterRef("scope_id"), period=OuterRef("period"), starts_at=STARTS
        )
        taken = {"spent": Subquery(account.values("spent_usd")), "held": Subquery(account.values("reserved_usd"))}
        return super().get_queryset(request).annotate(**taken)

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> tuple[str, ...]:
        return () if obj is None else ("scope", "scope_id", "period")

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.enabled:
            accounts.open_account(obj.scope, obj.scope_id)


def share(part: Decimal, whole: Decimal) -> Decimal:
    """From 0 to 1; of nothing, anything is all of it."""
    return min(Decimal(1), part / whole) if whole else Decimal(bool(part))


class PriceForm(forms.ModelForm):
    class Meta:
        model = Price
        fields = ("model", "input_usd", "output_usd", "cached_usd", "cache_write_usd")
        help_texts = {
            "input_usd": "US dollars for a million tokens.", "output_usd": "US dollars for a million tokens.",
            "cached_usd": "Empty: as other input.", "cache_write_usd": "Empty: as other input.",
        }  # fmt: skip

    def clean_model(self) -> str:
        try:
            return "/".join(providers.check(self.cleaned_data["model"]))
        except UnknownModel as error:
            raise forms.ValidationError(str(error)) from None


@admin.register(Price)
class PriceAdmin(ConsoleAdmin):
    """Prices that come before the bundled map's."""

    form = PriceForm
    list_display = ("model", "input", "output", "cached", "cache_write", "bundled")
    search_fields = ("model",)
    sortable_by = ()
    empty_words = "Add one for a model that the bundled price map does not know, or prices otherwise than you pay."

    @display(description="Input")
    def input(self, price: Price) -> SafeString:
        return line(shown(price.input_usd))

    @display(description="Output")
    def output(self, price: Price) -> SafeString:
        return line(shown(price.output_usd))

    @display(description="From the cache")
    def cached(self, price: Price) -> SafeString:
        return line("as input" if price.cached_usd is None else shown(price.cached_usd))

    @display(description="Into the cache")
    def cache_write(self, price: Price) -> SafeString:
        return line("as input" if price.cache_write_usd is None else shown(price.cache_write_usd))

    @display(description="The bundled map says (in / out)")
    def bundled(self, price: Price) -> SafeString:
        rates = prices.bundled_rates(price.model)
        return line(f"{shown(rates.input * 10**6)} / {shown(rates.output * 10**6)}" if rates else "nothing")

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        return () if obj is None else ("model",)


class AtFilter(PeriodFilter):
    title = "when"

    def since(self, moment: datetime.datetime) -> dict[str, Any]:
        return {"at__gte": moment}


class OutcomeFilter(DropdownFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", "ok"), *((code.value, code.value) for code in ErrorCode)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(outcome=self.value()) if self.value() else queryset


@admin.register(LedgerEntry)
class LedgerAdmin(ReadOnlyAdmin):
    """Every model call that has ended; nobody changes or removes one."""

    list_display = ("when", "of_task", "agent", "model", "tokens", "cost", "shown_outcome", "took")
    list_display_links = ("when",)
    list_filter = (OutcomeFilter, AtFilter)
    search_fields = ("task_id",)
    search_help_text = "A whole task id"
    sortable_by = ()
    ordering = ("-id",)
    fields = (
        "when", "link_to_task", "step", "attempt", "agent", "api_key", "model", "provider", "input_tokens",
        "output_tokens", "cached_tokens", "cost_usd", "charged_usd", "outcome", "seconds", "simulated",
    )  # fmt: skip
    readonly_fields = fields
    empty_words = "Every model call will be listed with its tokens and its cost, also after its task is removed."

    @display(description="When (UTC)")
    def when(self, entry: LedgerEntry) -> str:
        return moment(entry.at)

    @display(description="Task, step")
    def of_task(self, entry: LedgerEntry) -> str:
        named = f"{short(entry.task_id)}:{entry.step}"
        return format_html('<span class="console-id" title="{}">{}</span>', entry.task_id, named)

    @display(description="Task")
    def link_to_task(self, entry: LedgerEntry) -> str:
        link = reverse("admin:tasks_task_change", args=[entry.task_id])
        return format_html('<a class="console-link" href="{}">{}</a>', link, entry.task_id)

    @display(description="Tokens in / out")
    def tokens(self, entry: LedgerEntry) -> SafeString:
        return line(f"{entry.input_tokens:,} / {entry.output_tokens:,}")

    @display(description="Cost")
    def cost(self, entry: LedgerEntry) -> SafeString:
        return line(money(entry.cost_usd))

    @display(description="Outcome")
    def shown_outcome(self, entry: LedgerEntry) -> SafeString:
        return clip(entry.outcome)

    @display(description="Seconds")
    def took(self, entry: LedgerEntry) -> str:
        return f"{entry.seconds:.2f}"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerEntry], search_term: str
    ) -> tuple[QuerySet[LedgerEntry], bool]:
        term = search_term.strip()
        return (queryset.filter(task_id=term) if term else queryset), False

    def get_urls(self) -> list[URLPattern]:
        return [path("usage/", self.admin_site.admin_view(self.usage), name="llm_usage"), *super().get_urls()]

    def usage(self, request: HttpRequest) -> HttpResponse:
        """What models were used for: a chart by day and a table."""
        return page(self, request)
