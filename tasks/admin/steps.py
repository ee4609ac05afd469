"""Steps in the admin, read-only: of every task newest first, of one task in its order."""
from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from agents.console import ReadOnlyAdmin, clip, line, moment
from tasks.models import Step
from tasks.states import StepStatus
from tasks.transcript import indented, money, short

TROUBLE = (StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.DENIED)  # what the index step_trouble holds
STEP_LABELS = {"started": "info", "done": "success", "failed": "danger", "unknown": "warning", "denied": "warning"}


class TroubleFilter(DropdownFilter):
    """Steps that did not end well: the ones that a partial index holds."""

    title = "trouble"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, str(status.label)) for status in TROUBLE]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(status=self.value(), error__isnull=False) if self.value() in TROUBLE else queryset


@admin.register(Step)
class StepAdmin(ReadOnlyAdmin):
    """Every model and tool call, newest first; of one task in its order."""

    list_display = (
        "of_task", "seq", "kind", "name", "shown_status", "shown_summary", "tokens", "cost", "took", "started",
    )  # fmt: skip
    list_display_links = ("of_task", "seq")
    list_filter = (("kind", ChoicesDropdownFilter), TroubleFilter)
    search_fields = ("task_id",)
    search_help_text = "A task's id, or its start"
    sortable_by = ()
    fields = (
        "link_to_task", "seq", "kind", "name", "status", "summary", "model", "simulated", "attempt", "started_at",
        "seconds", "input_tokens", "output_tokens", "cost_usd", "error", "shown_input", "shown_output",
        "shown_attempts",
    )  # fmt: skip
    readonly_fields = fields
    empty_words = "Steps appear as soon as a worker runs a task."

    @display(description="Task")
    def of_task(self, step: Step) -> str:
        return format_html('<span class="console-id" title="{}">{}</span>', step.task_id, short(step.task_id))

    @display(description="Task")
    def link_to_task(self, step: Step) -> str:
        link = reverse("admin:tasks_task_change", args=[step.task_id])
        return format_html('<a class="console-link" href="{}">{}</a>', link, step.task_id)

    @display(description="Status", label=STEP_LABELS)
    def shown_status(self, step: Step) -> tuple[str, str]:
        return step.status, step.get_status_display()

    @display(description="Summary")
    def shown_summary(self, step: Step) -> str:
        return clip(step.summary)

    @display(description="Tokens")
    def tokens(self, step: Step) -> str:
        return f"{step.input_tokens + step.output_tokens:,}"

    @display(description="Cost")
    def cost(self, step: Step) -> str:
        return line("simulated" if step.simulated else money(step.cost_usd))

    @display(description="Seconds")
    def took(self, step: Step) -> str:
        return "" if step.seconds is None else f"{step.seconds:.2f}"

    @display(description="Started (UTC)")
    def started(self, step: Step) -> str:
        return moment(step.started_at)

    @display(description="Input")
    def shown_input(self, step: Step) -> str:
        return format_html('<pre class="console-json">{}</pre>', indented(step.input))

    @display(description="Output")
    def shown_output(self, step: Step) -> str:
        return format_html('<pre class="console-json">{}</pre>', indented(step.output))

    @display(description="Attempts")
    def shown_attempts(self, step: Step) -> str:
        return format_html('<pre class="console-json">{}</pre>', indented(step.attempts))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Step]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        listed = match and match.url_name == "tasks_step_changelist"
        return rows.defer("input", "output", "error", "attempts") if listed else rows

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return ("task_id", "seq") if request.GET.get("q") else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Step], search_term: str
    ) -> tuple[QuerySet[Step], bool]:
        term = search_term.strip().lower()
        if not term:
            return queryset, False
        start = term if term.startswith("task_") else f"task_{term}"
        # Ids go on in hex digits, which all sort before g: a range that the index on task and seq can walk.
        return queryset.filter(task_id__gte=start, task_id__lt=f"{start}g"), False
