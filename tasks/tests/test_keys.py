"""API keys: shown once, kept as a digest, refused when revoked or expired."""
from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import keys
from tasks.models import ApiKey

pytestmark = pytest.mark.django_db


def test_a_key_is_shown_once_and_only_its_digest_is_kept() -> None:
    key, token = keys.issue("reporting")

    assert token.startswith(f"ops_{key.prefix}")
    assert len(token) == len("ops_") + 8 + 43
    row = ApiKey.objects.values().get(id=key.id)
    assert token[12:] not in str(row)
    assert row["scopes"] == ["agents:read", "tasks:read", "tasks:write"]


def test_the_token_finds_its_key_and_notes_the_use() -> None:
    key, token = keys.issue("reporting")

    assert keys.authenticate(token) == key
    assert ApiKey.objects.get(id=key.id).last_used_at is not None


@pytest.mark.parametrize("change", [
    lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    lambda token: token + "A",
    lambda token: token[:-1],
    lambda token: "ops_" + "A" * 51,
    lambda token: token.removeprefix("ops_"),
    lambda token: "",
    lambda token: "ops_" + "\0" * 51,
    lambda token: "ops_" + "ä" * 51,
])  # fmt: skip
def test_what_is_not_the_whole_token_finds_nothing(change: object) -> None:
    _, token = keys.issue("reporting")
    assert keys.authenticate(change(token)) is None  # type: ignore[operator]


def test_a_revoked_or_expired_key_is_refused_with_its_own_sentence() -> None:
    now = timezone.now()
    revoked, revoked_token = keys.issue("gone")
    ApiKey.objects.filter(id=revoked.id).update(revoked_at=now)
    _, expired_token = keys.issue("late", expires_at=now)
    _, lasting_token = keys.issue("lasting", expires_at=now + timedelta(hours=1))

    assert keys.authenticate(revoked_token) is None
    assert keys.authenticate(expired_token) is None
    assert keys.authenticate(lasting_token) is not None
    assert "revoked" in keys.refusal(keys.find(revoked_token))  # type: ignore[arg-type]
    assert "expired" in keys.refusal(keys.find(expired_token))  # type: ignore[arg-type]


def test_use_is_noted_at_most_once_a_minute(django_assert_num_queries: object) -> None:
    key, token = keys.issue("busy")
    with django_assert_num_queries(2):  # type: ignore[operator]
        keys.authenticate(token)
    with django_assert_num_queries(1):  # type: ignore[operator]
        keys.authenticate(token)
    ApiKey.objects.filter(id=key.id).update(last_used_at=timezone.now() - timedelta(seconds=61))
    with django_assert_num_queries(2):  # type: ignore[operator]
        keys.authenticate(token)


def test_admin_implies_every_scope_and_others_only_their_own() -> None:
    admin, _ = keys.issue("root", ["admin"])
    reader, _ = keys.issue("reader", ["tasks:read"])

    assert keys.allows(admin, "agents:write")
    assert keys.allows(reader, "tasks:read", "tasks:read_all")
    assert not keys.allows(reader, "tasks:write")


def test_an_unknown_scope_is_named() -> None:
    with pytest.raises(ValueError, match=r"'tasks:everything'.*tasks:write"):
        keys.issue("wrong", ["tasks:everything"])
