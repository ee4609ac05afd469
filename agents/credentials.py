"""Provider rows as agents use them: which may be named, who names them, and that a row in use is not deleted."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet

from agents.config import model_of, provider_of
from agents.errors import CredentialInUse, FieldProblem, UnknownCredential
from agents.models import AgentVersion
from agents.strict import Problems, at, shown, storable
from llm import advice, providers
from llm.models import Provider


def problems(config: Any, pointer: str = "/config") -> Problems:
    """What is wrong with the credential that a valid configuration names. Queries, and locks the row when it is in a
    transaction, so that it is not deleted before that commits."""
    label = config.get("credential") if isinstance(config, Mapping) else None
    if not isinstance(label, str) or not label:
        return []
    rows = Provider.objects.select_for_update(no_key=True) if transaction.get_connection().in_atomic_block else (
        Provider.objects.all())  # fmt: skip
    row = rows.filter(label=label).first() if storable(label, pointer) == [] else None
    if row is None:
        return [FieldProblem(at(pointer, "credential"), "unknown_credential", _unknown(label))]
    provider = provider_of(config)
    if row.provider != provider:
        detail = f"{label!r} holds a key of {row.provider}, and the model is one of {provider or 'no provider'}."
        return [FieldProblem(at(pointer, "credential"), "wrong_provider", detail)]
    return []


def users_of(label: str) -> list[str]:
    """The agents, archived ones too, whose current version names that row. One query."""
    return sorted(_current().filter(config__credential=label).values_list("agent__slug", flat=True))


def remove(label: str) -> None:
    """Delete the row, unless an agent names it. Commits. Raises UnknownCredential and CredentialInUse.

    Calls under way end as they would; the next call of a task that was pinned to it fails by its name.
    """
    with transaction.atomic():
        row = Provider.objects.select_for_update().filter(label=label).first()
        if row is None:
            raise UnknownCredential(f"There is no provider {label!r}.")
        if users := users_of(label):
            raise CredentialInUse(f"{label!r} is the credential of {', '.join(users)}: choose another one there first.")
        row.delete()


def advice_of(config: Mapping[str, Any]) -> list[str]:
    """What is worth saying of the model that the configuration calls. Queries when it names a credential."""
    row = Provider.objects.filter(label=config["credential"]).first() if config.get("credential") else None
    said = advice.of(model_of(config), own_server=bool(config.get("api_base") or (row and row.base_url)))
    for model in config.get("fallback_models", ()):
        said += advice.of(providers.resolve(model), own_server=bool(config.get("api_base")))
    if row is not None and not row.enabled:
        said.append(f"Credential {row.label!r} is disabled: tasks fail until it is enabled.")
    return said


def current_models() -> list[tuple[str, dict[str, Any]]]:
    """Slug and configuration of every agent that takes tasks. One query."""
    return list(_current().filter(agent__archived=False).order_by("agent__slug").values_list("agent__slug", "config"))


def _unknown(label: str) -> str:
    known = ", ".join(Provider.objects.values_list("label", flat=True)[:50]) or "none yet"
    return f"There is no provider {shown(label)}; there are {known}."


def _current() -> QuerySet[AgentVersion]:
    return AgentVersion.objects.filter(version=F("agent__version"))
