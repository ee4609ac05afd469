"""API keys in the admin: made, shown once, revoked."""
from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from agents.console import ConsoleAdmin, dialog, leave_for
from tasks import keys
from tasks.forms import ApiKeyForm
from tasks.models import SCOPES, ApiKey

MOMENTS = ("created_at", "expires_at", "revoked_at", "last_used_at")


@admin.register(ApiKey)
class ApiKeyAdmin(ConsoleAdmin):
    """Keys are made here, shown once and revoked; a key is never changed or deleted."""

    form = ApiKeyForm
    list_display = (
        "name", "number", "shown_prefix", "shown_scopes", "state", "created_at", "expires_at", "last_used_at",
    )  # fmt: skip
    search_fields = ("name", "prefix")
    sortable_by = ()
    fields = ("name", "scopes", "expires_at")
    actions = ("revoke_selected",)
    actions_detail = ("revoke_this",)
    empty_words = "Add a key for each program that calls the API, so that each can be revoked by itself."

    @display(description="No.")
    def number(self, key: ApiKey) -> int:
        """As budgets and usage name it."""
        return int(key.pk)

    @display(description="Starts with")
    def shown_prefix(self, key: ApiKey) -> str:
        return format_html('<span class="console-id">ops_{}…</span>', key.prefix.removeprefix("ops_"))

    @display(description="Scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description="State", label={"active": "success", "revoked": "danger", "expired": "warning"})
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "active"

    @display(description="Scopes")
    def scopes_in_words(self, key: ApiKey) -> str:
        return "\n".join(f"{scope}: {SCOPES[scope]}" for scope in key.scopes)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return self.fields
        return ("name", "shown_prefix", "scopes_in_words", "state", *MOMENTS)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("tasks.change_apikey")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key, token = keys.issue(obj.name, scopes=tuple(obj.scopes), expires_at=obj.expires_at)
        obj.__dict__.update(key.__dict__)
        request.issued_token = token  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key in the answer itself: a redirect would have to keep it in the session."""
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": f"Key for {obj.name}",
            "key": obj, "token": request.issued_token,  # type: ignore[attr-defined]
        }  # fmt: skip
        return TemplateResponse(request, "tasks/key_issued.html", context)  # the admin answers with `no-store`

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            self._revoke(request, key)

    @action(
        description="Revoke", icon="block", variant=ActionVariant.DANGER, url_path="revoke", permissions=["revoke"],
        dialog=dialog("Revoke this key?", "Calls with it are refused from now on, for good.", "Revoke the key"),
    )  # fmt: skip
    def revoke_this(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is not None:
            self._revoke(request, key)
        return leave_for(request, reverse("admin:tasks_apikey_changelist"))

    def _revoke(self, request: HttpRequest, key: ApiKey) -> None:
        if key.revoked_at:
            messages.warning(request, f"{key.name} was already revoked.")
            return
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        messages.success(request, f"{key.name} is revoked: calls with it are refused from now on.")
