"""Which key a call is made with and where it goes: the agent's provider row, else the environment.

A key from the environment goes only to its provider's own host, its `…_API_BASE`, or an address that an admin set: a
row's `base_url`, or an agent's `api_base`.
"""
from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection

from llm import key_reference, masking, providers, sealing
from llm.errors import CredentialGone, MissingKey
from llm.messages import ModelSettings
from llm.models import Provider

KEPT_SECONDS = 1.0  # a rotated key is used at most so much later


@dataclass(frozen=True, slots=True)
class Access:
    """`key` is None where LiteLLM finds it itself, `base` '' for the provider's own address."""

    key: str | None = field(repr=False)
    base: str


@dataclass(frozen=True, slots=True)
class _Kept:
    row: Provider
    until: float


_UNSENDABLE = "{} holds a space, a line break or a character outside of ASCII: set it to the key alone"

_kept: dict[str, _Kept] = {}


def access(chosen: ModelSettings, provider: str) -> Access:
    """How a model of that provider is called. Raises MissingKey and CredentialGone, before any call.

    Queries when the agent names a row that this process has not read for a second, and hands the connection back.
    """
    if chosen.credential:
        row = _usable(chosen.credential, provider)
        return Access(_key_of(row), row.base_url or chosen.api_base or providers.base_of(provider))
    key = providers.key_of(provider) if provider in providers.KEY_VARIABLES else None
    if key and not key_reference.sendable(key):
        raise MissingKey(_UNSENDABLE.format(providers.KEY_VARIABLES[provider]))
    return Access(key, chosen.api_base or providers.base_of(provider))


def place_of(chosen: ModelSettings, provider: str) -> str:
    """What tells one account at one server from another: the credential and the address that is really called; ''
    for the provider's own with the workers' key. Queries as `access` does.
    """
    base = chosen.api_base or providers.base_of(provider)
    if not chosen.credential:
        return base
    with suppress(CredentialGone):
        base = _row(chosen.credential).base_url or base
    return f"{chosen.credential} {base}".rstrip()


def forget(label: str) -> None:
    """Read the row anew at the next call of this process."""
    _kept.pop(label, None)


def missing_variable(row: Provider) -> str:
    """The variable that the row names and this process does not have; '' when there is nothing missing."""
    try:
        return "" if not row.key_variable or _of_variable(row) else row.key_variable
    except MissingKey:
        return row.key_variable


def missing_variables() -> list[str]:
    """Those that enabled rows name and this process does not have, sorted. One query."""
    rows = Provider.objects.filter(enabled=True).exclude(key_variable="")
    return sorted({missing_variable(row) for row in rows} - {""})


def _usable(label: str, provider: str) -> Provider:
    row = _row(label)
    if not row.enabled:
        raise CredentialGone(f"credential {label!r} is disabled: enable the provider row, or choose another one")
    if row.provider != provider:
        raise CredentialGone(f"credential {label!r} is for {row.provider}, and the model is one of {provider}")
    return row


def _row(label: str) -> Provider:
    kept = _kept.get(label)
    if kept and time.monotonic() < kept.until:
        return kept.row
    try:
        row = Provider.objects.filter(label=label).first()
    finally:
        if not connection.in_atomic_block:
            connection.close()  # none is held across a call
    if row is None:
        forget(label)
        raise CredentialGone(f"credential {label!r} does not exist: its provider row was deleted; choose another one")
    _kept[label] = _Kept(row, time.monotonic() + KEPT_SECONDS)
    return row


def _key_of(row: Provider) -> str | None:
    key = _of_variable(row) if row.key_variable else _opened(row)
    masking.remember(key)
    return key or None


def _of_variable(row: Provider) -> str:
    whose = f"of credential {row.label!r} "
    try:
        key = _read(row.key_variable)
    except ValueError as error:  # NAME_FILE names a file that cannot be read; the message says which
        raise MissingKey(f"the key {whose}is not to be had: {error}") from None
    if not key:
        raise MissingKey(providers.missing_key(row.provider, row.key_variable, whose))
    if not key_reference.sendable(key):
        raise MissingKey(_UNSENDABLE.format(f"{row.key_variable} {whose.rstrip()}"))
    return key


def _opened(row: Provider) -> str:
    if not row.key_sealed:
        return ""
    try:
        return sealing.unseal(row.key_sealed)
    except sealing.Unreadable as error:
        raise MissingKey(f"the key of credential {row.label!r} cannot be read. {error}") from None


def _read(variable: str) -> str:
    """The value of NAME, or what the file in NAME_FILE holds; '' when neither is set. Raises ValueError."""
    value: str = settings.READ_SECRET(variable)
    return value
