"""API keys: `ops_<8 characters of prefix><43 of secret>`, of which a SHA-256 is kept.

The secret has 256 bits, so a plain digest is enough: there is nothing to guess that a slow hash would protect.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from django.db.models import Q
from django.utils import timezone

from tasks import prepared
from tasks.models import DEFAULT_SCOPES, SCOPES, ApiKey

TOKEN = re.compile(r"ops_[A-Za-z0-9_-]{51}\Z")
PREFIX_CHARACTERS = 8
USE_IS_NOTED_EVERY = timedelta(minutes=1)


def issue(
    name: str, scopes: Sequence[str] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key and its token, which cannot be had again. Raises ValueError for a scope that does not exist."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope {unknown[0]!r}; use {', '.join(SCOPES)}")
    prefix = secrets.token_urlsafe(6)
    token = f"ops_{prefix}{secrets.token_urlsafe(32)}"
    fields = {"name": name, "prefix": prefix, "scopes": sorted(set(scopes)), "expires_at": expires_at}
    return ApiKey.objects.create(digest=digest_of(token), **fields), token


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find(token: str) -> ApiKey | None:
    """The key with that token, also when it was revoked or has expired. One query; none for what is no token."""
    if not TOKEN.match(token):
        return None
    row = prepared.row(_statement(), [token[4 : 4 + PREFIX_CHARACTERS]])
    key = prepared.made(ApiKey, prepared.fields_of(ApiKey), row) if row else None
    if key is None or not secrets.compare_digest(key.digest, digest_of(token)):
        return None
    return key


@cache
def _statement() -> str:
    columns = ", ".join(str(field.column) for field in prepared.fields_of(ApiKey))
    return f"SELECT {columns} FROM tasks_apikey WHERE prefix = %s"  # noqa: S608 - names of our own


def refusal(key: ApiKey) -> str:
    """Why the key may not be used, or ''. Said only to whoever holds the whole token."""
    if key.revoked_at is not None:
        return "This API key was revoked."
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return "This API key has expired."
    return ""


def authenticate(token: str) -> ApiKey | None:
    """The usable key with that token, its use noted; None when there is none, or it was revoked or has expired."""
    key = find(token)
    if key is None or refusal(key):
        return None
    note_use(key)
    return key


def note_use(key: ApiKey) -> None:
    """Keep `last_used_at` true to a minute; one UPDATE a minute, however many requests and processes."""
    now = timezone.now()
    stale = now - USE_IS_NOTED_EVERY
    if key.last_used_at is None or key.last_used_at < stale:
        unnoted = Q(last_used_at__isnull=True) | Q(last_used_at__lt=stale)
        ApiKey.objects.filter(unnoted, pk=key.pk).update(last_used_at=now)


def allows(key: ApiKey, *scopes: str) -> bool:
    """Whether the key has one of the scopes; `admin` has all of them."""
    return "admin" in key.scopes or not set(scopes).isdisjoint(key.scopes)
