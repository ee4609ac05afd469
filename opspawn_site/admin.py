"""Users, groups, the audit log and the results of maintenance jobs: third-party models in the house's dress."""
from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django_celery_results.models import GroupResult, TaskResult
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from agents.console import ConsoleAdmin, PeriodFilter, ReadOnlyAdmin, moment
from agents.differences import Difference, differences

for _model in (User, Group, LogEntry, TaskResult, GroupResult):
    admin.site.unregister(_model)

ACTORS_OFFERED = 100
JOB_LABELS = {"SUCCESS": "success", "FAILURE": "danger", "STARTED": "info", "RETRY": "warning"}


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ConsoleAdmin):  # type: ignore[misc]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "shown_groups", "is_staff", "is_superuser", "is_active", "last_login")
    list_filter = ("is_staff", "is_superuser", "is_active", "groups")
    empty_words = "Add people here, let them in with `staff status`, and put them in Operators or Viewers."

    @display(description="Groups")
    def shown_groups(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ConsoleAdmin):  # type: ignore[misc]
    empty_words = "Operators and Viewers come back with the next `migrate`."


class WhenFilter(PeriodFilter):
    title = "when"

    def since(self, moment: datetime.datetime) -> dict[str, Any]:
        return {"timestamp__gte": moment}


class DoneFilter(PeriodFilter):
    title = "done"

    def since(self, moment: datetime.datetime) -> dict[str, Any]:
        return {"date_done__gte": moment}


class ActorFilter(DropdownFilter):
    """By user; entries made by API keys and by commands have none."""

    title = "who"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        users = User.objects.order_by("username").values_list("pk", "username")[:ACTORS_OFFERED]
        return [(str(pk), name) for pk, name in users] + [("none", "API keys and commands")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "none":
            return queryset.filter(actor__isnull=True)
        return queryset.filter(actor=self.value()) if (self.value() or "").isdecimal() else queryset


class ObjectFilter(DropdownFilter):
    """By kind of object: the models that are watched, and tasks, whose verbs are recorded."""

    title = "object"
    parameter_name = "object"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        watched = {model._meta.label_lower: str(model._meta.verbose_name) for model in auditlog.get_models()}
        return iter(sorted((watched | {"tasks.task": "task"}).items()))

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        app, _, model = (self.value() or "").partition(".")
        if not model:
            return queryset
        return queryset.filter(content_type__app_label=app, content_type__model=model)


@admin.register(LogEntry)
class AuditAdmin(ReadOnlyAdmin):
    """Who changed what, before and after; nobody changes or deletes an entry."""

    list_display = ("when", "who", "action", "kind", "what", "changed")
    list_display_links = ("when",)
    list_filter = (ActorFilter, ObjectFilter, ("action", ChoicesDropdownFilter), WhenFilter)
    list_select_related = ("actor", "content_type")
    search_fields = ("object_repr",)
    search_help_text = "Start of an object's name, or its whole id"
    sortable_by = ()
    ordering = ("-id",)
    fields = ("when", "who", "action", "kind", "link_to_object", "details", "remote_addr", "cid", "shown_changes")
    readonly_fields = fields
    empty_words = "Every change to agents, keys, users and groups will be listed, with who made it."

    @display(description="When (UTC)")
    def when(self, entry: LogEntry) -> str:
        return moment(entry.timestamp)

    @display(description="Who")
    def who(self, entry: LogEntry) -> str:
        about = entry.additional_data or {}
        if "api_key" in about:
            return f"API key {about['api_key']}"
        return entry.actor.get_username() if entry.actor else about.get("user") or about.get("by") or "a command"

    @display(description="Kind")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name

    @display(description="Object")
    def what(self, entry: LogEntry) -> str:
        return entry.object_repr

    @display(description="Changed")
    def changed(self, entry: LogEntry) -> str:
        verb = (entry.additional_data or {}).get("verb")
        names = ", ".join(sorted(entry.changes or {}))
        return f"{verb}: {names}" if verb else names

    @display(description="Object")
    def link_to_object(self, entry: LogEntry) -> str:
        kind = entry.content_type
        try:
            link = reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[entry.object_pk])
        except NoReverseMatch:
            return entry.object_repr
        return format_html('<a class="console-link" href="{}">{}</a>', link, entry.object_repr)

    @display(description="Details")
    def details(self, entry: LogEntry) -> str:
        return ", ".join(f"{name}: {value}" for name, value in (entry.additional_data or {}).items())

    @display(description="Changes")
    def shown_changes(self, entry: LogEntry) -> str:
        return render_to_string("agents/diff.html", {"changes": changes_of(entry), "nothing": "No values."})

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogEntry]:
        return super().get_queryset(request).defer("serialized_data", "changes_text")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LogEntry], search_term: str
    ) -> tuple[QuerySet[LogEntry], bool]:
        term = search_term.strip()
        found = Q(object_repr__startswith=term) | Q(object_pk=term[:255])
        return (queryset.filter(found) if term else queryset), False


def changes_of(entry: LogEntry) -> list[Difference]:
    """The entry's values before and after, as lines; a configuration key by key."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name, change in (entry.changes or {}).items():
        if isinstance(change, dict):  # of a many-to-many field: {"operation": "add", "objects": [...]}
            side = after if change.get("operation") == "add" else before
            side[name] = "\n".join(map(str, change.get("objects", ())))
            continue
        for side, value in zip((before, after), change, strict=True):
            if value not in (None, "None"):  # auditlog writes str(None)
                side[name] = json.loads(value) if name == "config" else value
    return differences(before, after)


@admin.register(TaskResult)
class JobResultAdmin(ReadOnlyAdmin):
    """Results of maintenance jobs; agent tasks keep theirs themselves."""

    list_display = ("task_id", "task_name", "shown_status", "worker", "date_created", "date_done")
    list_filter = (("status", ChoicesDropdownFilter), DoneFilter)
    search_fields = ("task_id",)
    search_help_text = "A whole job id"
    sortable_by = ()
    ordering = ("-id",)
    fields = (
        "task_id", "task_name", "status", "worker", "task_args", "task_kwargs", "date_created", "date_started",
        "date_done", "result", "traceback", "meta",
    )  # fmt: skip
    readonly_fields = fields
    empty_words = "Run `./opspawn doctor --deep`: each worker's answer is kept here."

    @display(description="Status", label=JOB_LABELS)
    def shown_status(self, result: TaskResult) -> str:
        return result.status

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TaskResult], search_term: str
    ) -> tuple[QuerySet[TaskResult], bool]:
        term = search_term.strip()
        return (queryset.filter(task_id=term) if term else queryset), False


@admin.register(GroupResult)
class JobGroupResultAdmin(ReadOnlyAdmin):
    list_display = ("group_id", "date_created", "date_done")
    search_fields = ("group_id",)
    sortable_by = ()
    ordering = ("-id",)
    fields = ("group_id", "date_created", "date_done", "result")
    readonly_fields = fields
    empty_words = "No job has run as a group."
