"""Tasks in the admin: a list that stays quick at any size, a page with the transcript, the verbs cancel and retry."""
from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from auditlog.models import LogEntry
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from agents.console import PeriodFilter, ReadOnlyAdmin, clip, dialog, leave_for, line, moment
from agents.errors import AgentError
from tasks import lifecycle, why
from tasks.admin.resuming import VERBS, ResumingActions, broke, choices, what_is_known
from tasks.errors import TaskError
from tasks.models import Task
from tasks.states import ErrorCode, Status, WaitingOn
from tasks.transcript import duration, entries, indented, money, short

STEPS_SHOWN = 200
EVENTS_SHOWN = 100
SELECTED_AT_ONCE = 200
STATUS_LABELS = {
    Status.PENDING.value: "", Status.RUNNING.value: "info", Status.WAITING.value: "warning",
    Status.COMPLETED.value: "success", Status.FAILED.value: "danger", Status.CANCELLED.value: "",
}  # fmt: skip
ALARMING = ("no_worker", "input", "approval", "budget", "lease_expiring")  # somebody should look
HEAVY = ("input_data", "overrides", "limits", "metadata", "result")  # a list shows none of them


class CreatedFilter(PeriodFilter):
    """Ids sort by time, so the primary key finds what was created since a moment."""

    title = "created"

    def since(self, moment: datetime.datetime) -> dict[str, Any]:
        return {"id__gte": f"task_{int(moment.timestamp() * 1000):012x}"}


class ErrorCodeFilter(DropdownFilter):
    """Failed tasks by reason; the status is named too, so that its index is used."""

    title = "error"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code.value, code.value) for code in ErrorCode]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() not in ErrorCode.values:
            return queryset
        return queryset.filter(status=Status.FAILED, error_code=self.value())


@admin.register(Task)
class TaskAdmin(ResumingActions, ReadOnlyAdmin):
    """Read-only, with the verbs that callers have: cancel, retry and resume."""

    list_display = (
        "task", "shown_name", "agent_version", "shown_status", "steps", "tokens", "cost", "created", "took",
    )  # fmt: skip
    list_display_links = ("task",)
    list_select_related = ("version__agent",)
    list_filter = (("status", ChoicesDropdownFilter), ("agent", RelatedDropdownFilter), ErrorCodeFilter, CreatedFilter)
    search_fields = ("id",)
    search_help_text = "Start of an id or name, a whole session id, or metadata as key=value"
    sortable_by = ()
    ordering = ("-id",)
    fields = ()
    actions = ("cancel_selected", "retry_selected")
    actions_detail = ("cancel_this", "retry_this", *VERBS)
    change_form_template = "tasks/task.html"
    empty_words = "Submit one over REST, or with `./opspawn submit`; it appears here at once."

    @display(description="Task")
    def task(self, task: Task) -> str:
        return format_html('<span class="console-id" title="{}">{}</span>', task.id, short(task.id))

    @display(description="Name")
    def shown_name(self, task: Task) -> str:
        return clip(task.name)

    @display(description="Agent")
    def agent_version(self, task: Task) -> str:
        return line(str(task.version))

    @display(description="Status", label=STATUS_LABELS)
    def shown_status(self, task: Task) -> tuple[str, str]:
        waits = f": {task.get_waiting_on_display().lower()}" if task.waiting_on else ""
        return task.status, f"{task.get_status_display()}{waits}"

    @display(description="Steps")
    def steps(self, task: Task) -> int:
        return task.steps_count

    @display(description="Tokens")
    def tokens(self, task: Task) -> str:
        return f"{task.input_tokens + task.output_tokens:,}"

    @display(description="Cost")
    def cost(self, task: Task) -> str:
        return line(money(task.cost_usd))

    @display(description="Created (UTC)")
    def created(self, task: Task) -> str:
        return moment(task.created_at)

    @display(description="Duration")
    def took(self, task: Task) -> str:
        return line(duration(task.started_at, task.completed_at))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match and match.url_name == "tasks_task_changelist":
            return rows.defer(*HEAVY)
        return rows.select_related("version__agent", "api_key", "retry_of")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Each way to search has its own index; nothing is looked for in the middle of a text."""
        term = search_term.strip()
        if not term:
            return queryset, False
        key, equals, value = term.partition("=")
        if equals and key:
            return queryset.filter(metadata__contains={key.strip(): value.strip()}), False
        found = Q(id__startswith=term if term.startswith("task_") else f"task_{term.lower()}")
        named = Q(name__startswith=term) & ~Q(name="")  # the second half makes PostgreSQL see that task_named holds it
        return queryset.filter(found | named | Q(session_id=term)), False

    def has_cancel_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tasks.cancel_task")

    def has_retry_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tasks.retry_task")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The one verb that the task's state allows; what resumes it stands beside what is known, further down."""
        task = self.get_object(request, object_id)
        wanted = "retry_this" if task is not None and task.is_final else "cancel_this"
        return [each for each in super().get_actions_detail(request, object_id) if each.action_name.endswith(wanted)]

    @admin.action(description="Cancel the selected tasks", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._each(request, queryset, lifecycle.cancel, "cancelled or asked to stop")

    @admin.action(description="Retry the selected tasks", permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._each(request, queryset, lifecycle.retry, "submitted again")

    @action(
        description="Cancel", icon="cancel", variant=ActionVariant.DANGER, url_path="cancel", permissions=["cancel"],
        dialog=dialog("Cancel this task?", "A call that is under way is ended; what is done stays.", "Cancel the task"),
    )  # fmt: skip
    def cancel_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        task = self._one(request, object_id, lifecycle.cancel)
        if task is not None:
            asked = "The task was asked to stop; a call that is under way is ended first."
            messages.success(request, "The task is cancelled." if task.status == Status.CANCELLED else asked)
        return leave_for(request, reverse("admin:tasks_task_change", args=[object_id]))

    @action(
        description="Retry", icon="replay", variant=ActionVariant.PRIMARY, url_path="retry", permissions=["retry"],
        dialog=dialog("Retry this task?", "A new task gets the same input; this one stays.", "Submit it again"),
    )  # fmt: skip
    def retry_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        task = self._one(request, object_id, lifecycle.retry)
        if task is not None:
            messages.success(request, "Submitted again: this is the new task.")
        return leave_for(request, reverse("admin:tasks_task_change", args=[task.id if task else object_id]))

    def _one(self, request: HttpRequest, task_id: str, verb: Callable[..., Task]) -> Task | None:
        """Apply a verb and record it; None and a message on the page when the task does not allow it."""
        before = Task.objects.filter(id=task_id).values_list("status", flat=True).first()
        try:
            task = verb(task_id, by=request.user.get_username())
        except (TaskError, AgentError) as error:
            messages.error(request, f"{short(task_id)}: {error}")
            return None
        if task.id == task_id:
            changes = {"status": [before, task.status], "cancel_requested_at": [None, str(task.cancel_requested_at)]}
        else:
            changes = {"retried as": [None, task.id]}
        LogEntry.objects.log_create(
            Task(id=task_id), action=LogEntry.Action.UPDATE, changes=changes,
            additional_data={"verb": verb.__name__},
        )  # fmt: skip
        return task

    def _each(self, request: HttpRequest, rows: QuerySet[Task], verb: Callable[..., Task], done: str) -> None:
        ids = list(rows.values_list("id", flat=True)[: SELECTED_AT_ONCE + 1])
        if len(ids) > SELECTED_AT_ONCE:
            messages.error(request, f"Select at most {SELECTED_AT_ONCE} tasks at once; nothing was done.")
            return
        changed = sum(self._one(request, task_id, verb) is not None for task_id in ids)
        if changed:
            messages.success(request, f"{changed} {'task' if changed == 1 else 'tasks'} {done}.")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        object_id = unquote(object_id)  # the list links to task_5F…
        task = self.get_object(request, object_id)
        if task is None or not self.has_view_permission(request, task):
            return super().change_view(request, object_id, form_url, extra_context)
        if request.headers.get("HX-Request"):
            if task.is_final:
                return HttpResponse(headers={"HX-Refresh": "true"})
            if request.GET.get("part") == "why":
                return TemplateResponse(request, "tasks/why.html", {"task": task, **standing_of(task)})
            if request.GET.get("seen") == str(task.last_seq):
                return HttpResponse(status=204)  # htmx leaves the page as it is
        context = page_of(task) | (extra_context or {}) | {"original": Titled(task)}
        return super().change_view(request, object_id, form_url, context)


class Titled:
    """A task as the page's heading names it: by its name, else by the short form of its id."""

    def __init__(self, task: Task) -> None:
        self._meta, self.pk, self._title = task._meta, task.pk, task.name or f"Task {short(task.id)}"

    def __str__(self) -> str:
        return self._title


def standing_of(task: Task) -> dict[str, Any]:
    """Why a task that has not ended stands where it stands; a few bounded queries."""
    reasons = why.reasons(task)
    return {"reasons": reasons, "alarming": reasons[0].code in ALARMING}


def page_of(task: Task) -> dict[str, Any]:
    """What the task's page shows; a few queries, bounded in rows."""
    steps = list(task.steps.order_by("seq")[: STEPS_SHOWN + 1])
    events = list(task.events.order_by("-seq")[:EVENTS_SHOWN])
    result = task.result.get("agent_outcome") if isinstance(task.result, dict) else task.result
    raw = {
        "Input": task.input_data, "Overrides": task.overrides, "Limits": task.limits, "Metadata": task.metadata,
        "Result": task.result,
    }  # fmt: skip
    return {
        "task": task,
        "task_steps": list(entries(task, steps[:STEPS_SHOWN])),
        "steps_left": max(0, task.steps_count - STEPS_SHOWN) if len(steps) > STEPS_SHOWN else 0,
        "simulated": any(step.simulated for step in steps),
        "answer": result if isinstance(result, str) or result is None else indented(result),
        "events": [(event, indented(event.data) if event.data else "") for event in reversed(events)],
        "events_left": task.last_seq - len(events),
        "raw": [(name, indented(value)) for name, value in raw.items() if value],
        "label": STATUS_LABELS[task.status],
        "cost": money(task.cost_usd),
        "tokens_in": f"{task.input_tokens:,}",
        "tokens_out": f"{task.output_tokens:,}",
        "took": duration(task.started_at, task.completed_at),
        "waited": duration(task.created_at, task.started_at or task.completed_at),
        "live": not task.is_final,
        **({} if task.is_final else standing_of(task)),
        **({"unknown": what_is_known(task), "choices": choices(task)} if task.waiting_on == WaitingOn.INPUT else {}),
        **({"broke": broke(task)} if task.waiting_on == WaitingOn.BUDGET else {}),
    }
