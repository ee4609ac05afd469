"""Agents and their versions in the admin: every save publishes, every version can be had back."""
from __future__ import annotations

from itertools import zip_longest
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from agents import config as configuration
from agents import credentials, versions
from agents.console import ConsoleAdmin, ReadOnlyAdmin, clip, dialog, leave_for, moment
from agents.differences import Difference, described, differences
from agents.errors import AgentError
from agents.forms import AgentForm
from agents.models import Agent, AgentVersion

VERSIONS_SHOWN = 20


class RollbackForm(BaseDialogForm):
    note = forms.CharField(
        required=False, max_length=500, widget=UnfoldAdminTextInputWidget,
        help_text="Why; it stands in the version list.",
    )  # fmt: skip


def diff_html(changes: list[Difference], nothing: str = "") -> SafeString:
    return render_to_string("agents/diff.html", {"changes": changes, "nothing": nothing})


@admin.register(Agent)
class AgentAdmin(ConsoleAdmin):
    """The typed form publishes through `agents.versions`; agents are archived, never deleted."""

    form = AgentForm
    list_display = ("slug", "shown_description", "version", "shown_model", "planner", "tools", "state", "changed")
    list_filter = ("archived",)
    search_fields = ("slug", "description")
    sortable_by = ("slug",)
    change_form_outer_after_template = "agents/versions.html"
    warn_unsaved_form = True
    empty_words = "Add one: a model, instructions, and the tools it may use."
    fieldsets = (
        ("Agent", {"fields": ("slug", "description", "archived", "based_on")}),
        ("What it is told", {"fields": (
            "model", "fallback_models", "instructions", "planner", "tools", "output_schema",
        )}),
        ("Limits of a task", {"fields": (
            "limits_max_steps", "limits_timeout_seconds", "limits_max_tool_calls", "limits_max_tokens",
            "limits_max_cost_usd", "limits_on_budget",
        )}),
        ("How the model is called", {"fields": (
            "temperature", "top_p", "top_k", "seed", "max_output_tokens", "stop", "response_format",
            "call_timeout_seconds", "provider_options", "credential", "api_base",
        )}),
        ("How its tasks run and stay", {"fields": ("queue", "max_concurrency", "retention_days")}),
        ("This change", {"fields": ("note",)}),
    )  # fmt: skip
    shown_fieldsets = (
        (None, {"fields": ("slug", "description", "archived", "version", "changed", "shown_config")}),
    )

    @display(description="Description")
    def shown_description(self, agent: Agent) -> str:
        return clip(agent.description)

    @display(description="Model")
    def shown_model(self, agent: Agent) -> str:
        return current(agent).get("model") or "the default"

    @display(description="Planner")
    def planner(self, agent: Agent) -> str:
        return current(agent).get("planner") or "native"

    @display(description="Tools")
    def tools(self, agent: Agent) -> str:
        names = current(agent).get("tools") or []
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    @display(description="State", label={"active": "success", "archived": ""})
    def state(self, agent: Agent) -> str:
        return "archived" if agent.archived else "active"

    @display(description="Last change (UTC)")
    def changed(self, agent: Agent) -> str:
        return moment(agent.updated_at)

    @display(description="Configuration")
    def shown_config(self, agent: Agent) -> str:
        return diff_html(described(current(agent)), "Everything is left to the defaults.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        if not match or match.url_name != "agents_agent_changelist":
            return rows
        published = AgentVersion.objects.filter(agent=OuterRef("pk"), version=OuterRef("version"))
        picked = JSONObject(model="config__model", planner="config__planner", tools="config__tools")
        return rows.annotate(picked=Subquery(published.values(picked=picked)))

    def has_delete_permission(self, request: HttpRequest, obj: Agent | None = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Agent | None = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change, **options)
        form.superuser = request.user.is_superuser
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Agent | None = None) -> Any:
        readable = obj is not None and not self.has_change_permission(request, obj)
        return self.shown_fieldsets if readable else self.fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("slug",) if self.has_change_permission(request, obj) else self.shown_fieldsets[0][1]["fields"]

    def save_model(self, request: HttpRequest, obj: Agent, form: AgentForm, change: bool) -> None:
        """Publish; `obj` gets the id and the number of the version."""
        given, by = form.cleaned_data, request.user.get_username()
        if change:
            agent = versions.change(obj.slug, form.patch(), note=given["note"], by=by, if_match=given["based_on"])
        else:
            agent = versions.create(
                obj.slug, form.config(), description=given["description"], note=given["note"], by=by
            )  # fmt: skip
        obj.pk, obj.version = agent.pk, agent.version
        for sentence in credentials.advice_of(form.config()):
            messages.warning(request, sentence)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """A save that lost a race after the form was checked is refused like one before."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AgentError as error:
            messages.error(request, f"Nothing was saved. {error}")
            return HttpResponseRedirect(request.get_full_path())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        listed = version_list(object_id) if request.user.has_perm("agents.view_agentversion") else []
        return super().change_view(request, object_id, form_url, (extra_context or {}) | {"versions": listed})

    def response_add(self, request: HttpRequest, obj: Agent, post_url_continue: str | None = None) -> HttpResponse:
        messages.success(request, f"{obj.slug} is published as version 1 and takes tasks from now on.")
        return HttpResponseRedirect(reverse("admin:agents_agent_change", args=[obj.pk]))

    def response_change(self, request: HttpRequest, obj: Agent) -> HttpResponse:
        if str(obj.version) == request.POST.get("based_on"):
            messages.info(request, f"Nothing changed: {obj.slug} is still at version {obj.version}.")
        else:
            messages.success(request, f"Published version {obj.version}; new tasks run it, accepted ones keep theirs.")
        return HttpResponseRedirect(reverse("admin:agents_agent_change", args=[obj.pk]))


def current(agent: Agent) -> dict[str, Any]:
    """The published configuration; in a list only what the list shows of it, without a query."""
    if hasattr(agent, "picked"):
        return agent.picked or {}
    version = agent.versions.filter(version=agent.version).first()
    return version.config if version else {}


def version_list(agent_id: str) -> list[tuple[AgentVersion, list[Difference] | None]]:
    """The newest versions with what each changed; None for the first. One query."""
    if not agent_id.isdecimal():
        return []
    rows = list(AgentVersion.objects.filter(agent_id=int(agent_id)).order_by("-version")[: VERSIONS_SHOWN + 1])
    pairs = zip_longest(rows, rows[1:])
    return [(row, differences(before.config, row.config) if before else None) for row, before in pairs][:VERSIONS_SHOWN]


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnlyAdmin):
    """Immutable; a version can be published again."""

    list_display = ("shown", "note", "rollback_of", "created_by", "published")
    list_display_links = ("shown",)
    list_filter = (("agent", RelatedDropdownFilter),)
    list_select_related = ("agent",)
    search_fields = ("agent__slug", "note", "created_by")
    sortable_by = ()
    ordering = ("-id",)
    fields = (
        "link_to_agent", "version", "note", "rollback_of", "created_by", "published", "shown_changes", "shown_config",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("roll_back",)
    empty_words = "Each save of an agent publishes one."

    @display(description="Version")
    def shown(self, version: AgentVersion) -> str:
        return str(version)

    @display(description="Agent")
    def link_to_agent(self, version: AgentVersion) -> str:
        link = reverse("admin:agents_agent_change", args=[version.agent_id])
        agent = version.agent
        shown = '<a class="console-link" href="{}">{}</a>, now at version {}'
        return format_html(shown, link, agent.slug, agent.version)

    @display(description="Published (UTC)")
    def published(self, version: AgentVersion) -> str:
        return moment(version.created_at)

    @display(description="Configuration")
    def shown_config(self, version: AgentVersion) -> str:
        return diff_html(described(version.config), "Everything is left to the defaults.")

    @display(description="What changed")
    def shown_changes(self, version: AgentVersion) -> str:
        before = AgentVersion.objects.filter(agent=version.agent_id, version=version.version - 1).first()
        return diff_html(differences(before.config, version.config)) if before else "The first version."

    def get_queryset(self, request: HttpRequest) -> QuerySet[AgentVersion]:
        rows = super().get_queryset(request).select_related("agent")
        match = request.resolver_match
        return rows.defer("config") if match and (match.url_name or "").endswith("changelist") else rows

    def has_rollback_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("agents.change_agent")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """There is nothing to roll back to on the current version."""
        version = self.get_object(request, object_id)
        at_it = version is None or version.version == version.agent.version
        return [] if at_it else super().get_actions_detail(request, object_id)

    @action(
        description="Roll back to this version", icon="history", variant=ActionVariant.PRIMARY, url_path="rollback",
        permissions=["rollback"],
        dialog=dialog(
            "Roll back to this version?",
            "Its configuration is published as a new version. New tasks run it; tasks already accepted keep theirs.",
            "Publish it again", RollbackForm,
        ),
    )  # fmt: skip
    def roll_back(self, request: HttpRequest, form: RollbackForm, object_id: str) -> HttpResponse:
        version = self.get_object(request, object_id)
        if version is None:
            return leave_for(request, reverse("admin:agents_agentversion_changelist"))
        if not request.user.is_superuser and configuration.needs_admin(version.config, before=current(version.agent)):
            messages.error(request, "That version sets an address, where the provider's key travels: ask a superuser.")
            return leave_for(request, reverse("admin:agents_agentversion_change", args=[object_id]))
        try:
            agent = versions.rollback(
                version.agent.slug, version.version, by=request.user.get_username(), note=form.cleaned_data["note"],
                if_match=version.agent.version,
            )  # fmt: skip
            messages.success(request, f"Published version {version.version} again, as version {agent.version}.")
        except AgentError as error:
            messages.error(request, f"Nothing was changed. {error}")
        return leave_for(request, reverse("admin:agents_agent_change", args=[version.agent_id]))
