"""Provider rows in the admin: made, tried on a worker, their keys replaced and never shown."""
from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from rest_framework.exceptions import ValidationError
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from agents import credentials, provider_rows
from agents.console import ConsoleAdmin, dialog, leave_for, moment
from agents.errors import AgentError
from llm import masking
from llm.models import Provider
from tasks.provider_form import ProviderForm, TrialForm
from tasks.providers import model_to_try
from tasks.trials import ask_worker

SHOWN = ("key_changed", "shown_test", "shown_users", "created", "updated")
TRY = dialog(
    "Test this provider?",
    "A worker makes the smallest call there is with this key, and says within 20 seconds what came of it.",
    "Make the call", TrialForm,
)  # fmt: skip


@admin.register(Provider)
class ProviderAdmin(ConsoleAdmin):
    """Saves through `agents.provider_rows`, deletes through `agents.credentials`."""

    form = ProviderForm
    list_display = ("label", "provider", "address", "shown_key", "key_changed", "state", "tested")
    list_filter = ("enabled",)
    search_fields = ("label", "provider")
    sortable_by = ("label",)
    actions_detail = ("try_it",)
    warn_unsaved_form = True
    empty_words = "Without any, models are called with the keys in the environment. Add one to give an agent its own."

    @display(description="Address")
    def address(self, row: Provider) -> str:
        return row.base_url or "the provider's own"

    @display(description="Key")
    def shown_key(self, row: Provider) -> str:
        return format_html('<span class="console-id">{}</span>', row.shown_key or "none")

    @display(description="Key set (UTC)")
    def key_changed(self, row: Provider) -> str:
        return moment(row.key_changed_at) if row.key_changed_at else "—"

    @display(description="State", label={"enabled": "success", "disabled": ""})
    def state(self, row: Provider) -> str:
        return "enabled" if row.enabled else "disabled"

    @display(description="Last test", label={"went well": "success", "failed": "danger", "never": ""})
    def tested(self, row: Provider) -> str:
        if not row.last_test:
            return "never"
        return "went well" if row.last_test["ok"] else "failed"

    @display(description="Last test (UTC)")
    def shown_test(self, row: Provider) -> str:
        if not row.last_test:
            return "Never tested: use the button Test above."
        return f"{row.last_test['at'][:19].replace('T', ' ')}: {in_words(row.last_test)}"

    @display(description="Agents that use it")
    def shown_users(self, row: Provider) -> str:
        return ", ".join(credentials.users_of(row.label)) or "none"

    @display(description="Made (UTC)")
    def created(self, row: Provider) -> str:
        return moment(row.created_at)

    @display(description="Last change (UTC)")
    def updated(self, row: Provider) -> str:
        return moment(row.updated_at)

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        """Whoever may only look sees the key's last four in the place of the field that takes another."""
        key = "key" if obj is None or self.has_change_permission(request, obj) else "shown_key"
        given = (None, {"fields": ("label", "provider", "base_url", key, "enabled")})
        return (given,) if obj is None else (given, ("What is known of it", {"fields": SHOWN}))

    def get_readonly_fields(self, request: HttpRequest, obj: Provider | None = None) -> tuple[str, ...]:
        return () if obj is None else ("label", "provider", "shown_key", *SHOWN)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """None on several at once: Django's own would delete one that an agent names."""
        return {}

    def has_try_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("llm.change_provider")

    def save_model(self, request: HttpRequest, obj: Provider, form: ProviderForm, change: bool) -> None:
        row = provider_rows.change(obj.label, form.given()) if change else provider_rows.create(form.given())
        obj.__dict__.update(row.__dict__)

    def response_add(self, request: HttpRequest, obj: Provider, post_url_continue: str | None = None) -> HttpResponse:
        messages.success(request, f"{obj.label} is kept. Test it, then choose it as the credential of an agent.")
        return HttpResponseRedirect(reverse("admin:llm_provider_change", args=[obj.pk]))

    def delete_model(self, request: HttpRequest, obj: Provider) -> None:
        credentials.remove(obj.label)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """A save that another one overtook is refused in words. What is typed stays out of logs and error pages."""
        masking.remember(request.POST.get("key", "").strip())
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except AgentError as error:
            messages.error(request, f"Nothing was saved. {error}")
            return HttpResponseRedirect(request.get_full_path())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One that an agent names is refused before anybody is asked to confirm."""
        row = self.get_object(request, object_id)
        users = credentials.users_of(row.label) if row else []
        if row and users:
            messages.error(request, f"{row.label} is the credential of {', '.join(users)}: choose another there first.")
            return HttpResponseRedirect(reverse("admin:llm_provider_change", args=[object_id]))
        return super().delete_view(request, object_id, extra_context)

    @action(
        description="Test", icon="network_check", variant=ActionVariant.PRIMARY, url_path="try", permissions=["try"],
        dialog=TRY,
    )  # fmt: skip
    def try_it(self, request: HttpRequest, form: TrialForm, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            return leave_for(request, reverse("admin:llm_provider_changelist"))
        try:
            answer = ask_worker(row.label, model_to_try(row, form.cleaned_data["model"]))
        except ValidationError as error:
            messages.error(request, " ".join(map(str, error.detail["model"])))  # type: ignore[call-overload]
        else:
            (messages.success if answer["ok"] else messages.error)(request, in_words(answer))
        return leave_for(request, reverse("admin:llm_provider_change", args=[object_id]))


def in_words(test: dict[str, Any]) -> str:
    if test["ok"]:
        return f"{test['model']} answered in {test['latency_ms']:.0f} ms"
    if test["latency_ms"] is None:
        return test["error"]
    return f"{test['model']} failed after {test['latency_ms']:.0f} ms: {test['error']}"
