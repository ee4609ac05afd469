"""The three answers to a step that nobody knows the outcome of, on the task's page."""
from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from auditlog.models import LogEntry
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from agents.console import dialog, leave_for
from agents.strict import money, storable
from tasks import resuming
from tasks.budget_waits import blocking
from tasks.errors import TaskError
from tasks.models import Step, Task
from tasks.states import EventType
from tasks.transcript import indented, short
from tasks.why import unknown_step

SAID = {
    "happened": "Taken as done: the task goes on from there.",
    "again": "The call is made once more as soon as a worker is free.",
    "stop": "The task is cancelled.",
}
VERBS = ("happened_this", "again_this", "stop_this", "add_budget_this")
CHOICES = (("happened", "It happened …", False), ("again", "Do it again …", False), ("stop", "Stop the task …", True))


class HappenedForm(BaseDialogForm):
    """The result that the call brought, as JSON; empty for none."""

    result = forms.CharField(
        required=False, strip=False, label="Its result, as JSON", widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text='What the model is told the call brought, such as {"id": 7} or "sent". Empty means null.',
    )  # fmt: skip

    def clean_result(self) -> Any:
        text = self.cleaned_data["result"].strip()
        try:
            value = json.loads(text, parse_constant=_no_constant) if text else None
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"That is not JSON ({error}). Put a text into double quotes.") from None
        if problems := storable(value, ""):
            raise forms.ValidationError(problems[0].detail)
        return value


class AddBudgetForm(BaseDialogForm):
    """US dollars to add to the task's own budget."""

    amount_usd = forms.CharField(
        label="Dollars to add", widget=UnfoldAdminTextInputWidget, help_text="Such as 1.50; the task goes on at once."
    )

    def clean_amount_usd(self) -> Decimal:
        text = self.cleaned_data["amount_usd"].strip()
        for problem in money().check(text, ""):
            raise forms.ValidationError(problem.detail)
        return Decimal(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


class ResumingActions:
    """The verbs, for the admin of tasks; each asks first and is recorded."""

    def has_resume_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tasks.resume_task")

    @action(
        description="It happened", url_path="happened", permissions=["resume"],
        dialog=dialog("The call took effect?", "It is not made again; the task goes on with this result.",
                      "It happened", HappenedForm),
    )  # fmt: skip
    def happened_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return _resolve(request, object_id, "happened", form.cleaned_data["result"])

    @action(
        description="Do it again", url_path="again", permissions=["resume"],
        dialog=dialog("Make the call once more?", "If it did take effect the first time, it happens twice.",
                      "Do it again"),
    )  # fmt: skip
    def again_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return _resolve(request, object_id, "again")

    @action(
        description="Stop the task", url_path="stop", permissions=["resume"], variant=ActionVariant.DANGER,
        dialog=dialog("Stop this task?", "It is cancelled, for good; the call stays unknown.", "Stop the task"),
    )  # fmt: skip
    def stop_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return _resolve(request, object_id, "stop")

    @action(
        description="Add budget", url_path="budget", permissions=["resume"],
        dialog=dialog("Add to its budget?", "The task goes on with what is added to the limit that it brought along.",
                      "Add", AddBudgetForm),
    )  # fmt: skip
    def add_budget_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        amount = form.cleaned_data["amount_usd"]
        try:
            task = resuming.add_budget(object_id, amount, by=request.user.get_username())
        except TaskError as error:
            messages.error(request, f"{short(object_id)}: {error}")
        else:
            messages.success(request, f"${amount:f} added: the task goes on as soon as a worker is free.")
            LogEntry.objects.log_create(
                Task(id=object_id), action=LogEntry.Action.UPDATE, additional_data={"verb": "resume"},
                changes={"status": ["waiting", task.status], "add_budget_usd": [None, f"{amount:f}"]},
            )  # fmt: skip
        return leave_for(request, reverse("admin:tasks_task_change", args=[object_id]))


def _resolve(request: HttpRequest, task_id: str, how: str, result: Any = None) -> HttpResponse:
    """Say it, record who said it, and return to the task."""
    step = Step.objects.filter(task_id=task_id, status="unknown").order_by("-seq").only("seq").first()
    try:
        task = resuming.resolve(task_id, how, by=request.user.get_username(), result=result)
    except TaskError as error:
        messages.error(request, f"{short(task_id)}: {error}")
    else:
        messages.success(request, SAID[how])
        changes = {"status": ["waiting", task.status], "waiting_on": ["input", task.waiting_on]}
        about = {"verb": "resume", "resolve": how, "step": step.seq if step else None}
        if how == "happened":
            changes["result"] = [None, json.dumps(result, ensure_ascii=False)]
        LogEntry.objects.log_create(
            Task(id=task_id), action=LogEntry.Action.UPDATE, changes=changes, additional_data=about
        )
    return leave_for(request, reverse("admin:tasks_task_change", args=[task_id]))


def what_is_known(task: Task) -> dict[str, Any] | None:
    """Of the step whose outcome is unknown: tool, arguments, when, on which worker, its key. Two queries or one."""
    step = unknown_step(task)
    if step is None:
        return None
    started = task.events.filter(type=EventType.TASK_STARTED, data__attempt=step.attempt).order_by("-seq").first()
    return {
        "step": step,
        "arguments": indented(step.input),
        "worker": started.data.get("worker", "") if started else "",
        "key": f"{task.id}:{step.seq}",
    }


def broke(task: Task) -> dict[str, Any]:
    """Of a task that waits for a budget: whether it is one that a person can add to here, and where."""
    line = blocking(task)
    page = reverse("admin:tasks_task_change", args=[task.id]).removesuffix("change/")
    return {"own": line is not None and line.scope == "task", "url": f"{page}budget/"}


def choices(task: Task) -> list[dict[str, Any]]:
    """The buttons of the page, each to its dialog."""
    page = reverse("admin:tasks_task_change", args=[task.id]).removesuffix("change/")
    return [{"url": f"{page}{path}/", "words": words, "grave": grave} for path, words, grave in CHOICES]
