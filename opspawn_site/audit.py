"""Who changed what: every entry of the audit log gets its actor, and a published version gets an entry.

django-auditlog's own middleware connects and disconnects a signal for each request and believes the client's
`X-Forwarded-For`; here one receiver asks, only when an entry is written, for the request that is being served.
"""
from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from auditlog.signals import pre_log
from django.contrib.auth.models import Group, User
from django.db.models.signals import post_save, pre_save
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from agents.models import Agent, AgentVersion
from llm.models import Budget, Price, Provider
from tasks.models import ApiKey

# The key's last four characters at most: `key_sealed` is nobody's business.
PROVIDER_FIELDS = ["label", "provider", "base_url", "key_variable", "key_last", "key_changed_at", "enabled"]

_serving: ContextVar[HttpRequest | None] = ContextVar("serving", default=None)


@sync_and_async_middleware
def audit_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Keep the request at hand for `name_the_actor`; costs one context variable."""
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> Any:
            token = _serving.set(request)
            try:
                return await get_response(request)
            finally:
                _serving.reset(token)

        return serve_async

    def serve(request: HttpRequest) -> Any:
        token = _serving.set(request)
        try:
            return get_response(request)
        finally:
            _serving.reset(token)

    return serve


def watch() -> None:
    """Register the models whose every change is kept. Tasks, steps and events are not: their events are."""
    auditlog.register(Agent, include_fields=["description", "archived"])
    auditlog.register(Provider, include_fields=PROVIDER_FIELDS)
    auditlog.register(ApiKey, include_fields=["name", "prefix", "scopes", "expires_at", "revoked_at"])
    auditlog.register(Budget, include_fields=["scope", "scope_id", "period", "limit_usd", "enabled"])
    auditlog.register(Price, include_fields=["model", "input_usd", "output_usd", "cached_usd", "cache_write_usd"])
    auditlog.register(
        User, exclude_fields=["id", "date_joined", "last_login"], m2m_fields={"groups", "user_permissions"},
        mask_fields=["password"], mask_callable="opspawn_site.audit.hidden",
    )  # fmt: skip
    auditlog.register(Group, m2m_fields={"permissions"})
    pre_log.connect(is_worth_an_entry, sender=Agent, dispatch_uid="audit_agent_made")
    pre_save.connect(name_the_actor, sender=LogEntry, dispatch_uid="audit_actor")
    post_save.connect(record_version, sender=AgentVersion, dispatch_uid="audit_version")


def is_worth_an_entry(sender: type[Agent], action: int, **signal: Any) -> bool:
    """The first version of an agent is the entry of its making."""
    return action != LogEntry.Action.CREATE


def hidden(value: str) -> str:
    """A password's digest in the log: that it changed, nothing of it."""
    return "(hidden)"


def name_the_actor(sender: type[LogEntry], instance: LogEntry, **signal: Any) -> None:
    """Fill in who is behind a new entry: the user of the session, or the API key by name."""
    request = _serving.get()
    if request is None or not instance._state.adding:
        return
    user, key = getattr(request, "user", None), getattr(request, "api_key", None)
    if isinstance(key, ApiKey):
        instance.additional_data = (instance.additional_data or {}) | {"api_key": key.name, "key_prefix": key.prefix}
    elif user is not None and user.is_authenticated:
        instance.actor, instance.actor_email = user, user.email
        instance.additional_data = (instance.additional_data or {}) | {"user": user.get_username()}
    instance.remote_addr = instance.remote_addr or _address(request.META.get("REMOTE_ADDR", ""))
    instance.cid = instance.cid or getattr(request, "request_id", None)


def record_version(
    sender: type[AgentVersion], instance: AgentVersion, created: bool, raw: bool = False, **signal: Any
) -> None:
    """A published version, with the configuration before and after, in the transaction that publishes it."""
    if not created or raw:
        return
    before = AgentVersion.objects.filter(agent=instance.agent_id, version=instance.version - 1).first()
    changes: dict[str, list[Any]] = {"version": [before.version if before else None, instance.version]}
    if before is None or before.config != instance.config:
        changes["config"] = [_readable(before.config) if before else None, _readable(instance.config)]
    if before is None and instance.agent.description:
        changes["description"] = [None, instance.agent.description]
    action = LogEntry.Action.UPDATE if before else LogEntry.Action.CREATE
    about = {"by": instance.created_by, "note": instance.note, "rollback_of": instance.rollback_of}
    LogEntry.objects.log_create(
        instance.agent, action=action, changes=changes, object_repr=str(instance),
        additional_data={name: value for name, value in about.items() if value},
    )  # fmt: skip


def _readable(config: Any) -> str:
    return json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None  # a Unix socket has none
