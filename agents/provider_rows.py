"""How provider rows are made and changed, by every door: checked, saved one at a time so that it is audited."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.config import web_address
from agents.errors import ConfigInvalid, CredentialTaken, FieldProblem, UnknownCredential
from agents.strict import Problems, report, storable
from llm import key_reference, providers
from llm.models import LABEL, Provider

ADDRESS = web_address()


def create(given: Mapping[str, Any]) -> Provider:
    """A new row of `label`, `provider`, `base_url`, `key`, `enabled`. Raises ConfigInvalid and CredentialTaken."""
    row = Provider(label=given["label"], provider=providers.canonical(given["provider"]))
    refuse([*_label_problems(row.label), *provider_problems(row.provider), *_changed(row, given)])
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise CredentialTaken(f"There is a provider {row.label!r} already; change that one, or take another.") from None
    row.refresh_from_db()
    return row


def change(label: str, given: Mapping[str, Any]) -> Provider:
    """Change `base_url`, `key`, `enabled`, in one transaction. Raises UnknownCredential and ConfigInvalid."""
    with transaction.atomic():
        row = Provider.objects.select_for_update().filter(label=label).first()
        if row is None:
            raise UnknownCredential(f"There is no provider {label!r}.")
        refuse(_changed(row, given))
        row.updated_at = timezone.now()
        row.save()
    return row


def provider_problems(provider: str) -> Problems:
    if providers.known(provider):
        return []
    detail = f"{provider[:80]!r} is no provider of LiteLLM; see docs/reference/models.md."
    return [FieldProblem("/provider", "unknown_provider", detail)]


def address_problems(address: str) -> Problems:
    """Of a `base_url`; an empty one is the provider's own."""
    if not address:
        return []
    problems = storable(address, "/base_url") or ADDRESS.check(address, "/base_url")
    if not problems and (urlsplit(address).query or urlsplit(address).fragment):
        return [FieldProblem("/base_url", "invalid", "It holds a ? or a #; give the address alone.")]
    return problems


def key_problems(key: str, provider: str) -> Problems:
    """Of a new key; an empty one takes the key away."""
    if not key and provider in providers.KEY_VARIABLES:
        detail = f"{provider} is not called without a key; for a server that wants none give any text."
        return [FieldProblem("/key", "required", detail)]
    problem = key_reference.problem(key) if key else ""
    return [FieldProblem("/key", "invalid", problem)] if problem else []


def refuse(problems: Problems) -> None:
    if found := report(problems):
        raise ConfigInvalid(f"{found[0].pointer}: {found[0].detail}", problems=tuple(found))


def _changed(row: Provider, given: Mapping[str, Any]) -> Problems:
    """Put what is given into the row, and say what is wrong with it. Saves nothing."""
    row.base_url = given.get("base_url", row.base_url)
    row.enabled = given.get("enabled", row.enabled)
    problems = address_problems(row.base_url)
    if "key" in given or not row.has_key:
        key = given.get("key", "")
        wrong = key_problems(key, row.provider)
        problems += wrong
        if not wrong and (key or row.has_key):
            row.take_key(key)
    return problems


def _label_problems(label: str) -> Problems:
    try:
        LABEL(label)
    except ValidationError as error:
        return [FieldProblem("/label", "invalid", error.messages[0])]
    return []
