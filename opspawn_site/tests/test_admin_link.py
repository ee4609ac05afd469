"""The one-time link: it signs in once, soon, and only to this site."""
from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core import signing
from django.test import Client
from django.utils import timezone

from opspawn_site.admin_link import LIFE_SECONDS, link_for, spend, token_for

pytestmark = pytest.mark.django_db
PAGE = "/admin/tasks/task/"


@pytest.fixture
def admin() -> AbstractUser:
    users: Any = get_user_model().objects
    return users.create_superuser("admin", "", "a password of twelve")


def follow(link: str, client: Client | None = None):
    return (client or Client()).get(link.removeprefix("http://site"))


def test_it_signs_in_and_leads_to_the_page(admin: AbstractUser) -> None:
    client = Client()
    answer = follow(link_for("http://site", admin, PAGE), client)
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    assert client.session["_auth_user_id"] == str(admin.pk)


def test_it_is_spent_after_one_use(admin: AbstractUser) -> None:
    link = link_for("http://site", admin)
    follow(link)
    second = Client()
    answer = follow(link, second)
    assert answer.status_code == 403
    assert "used already" in answer.text
    assert "_auth_user_id" not in second.session


def test_looking_at_it_with_head_does_not_spend_it(admin: AbstractUser) -> None:
    link = link_for("http://site", admin)
    Client().head(link.removeprefix("http://site"))
    assert follow(link).status_code == 302


def test_of_two_who_read_the_same_state_one_gets_in(admin: AbstractUser) -> None:
    token = token_for(admin)
    assert spend(token) == admin
    assert spend(token) is None


def test_a_login_in_between_makes_it_worthless(admin: AbstractUser) -> None:
    link = link_for("http://site", admin)
    admin.last_login = timezone.now()
    admin.save()
    assert follow(link).status_code == 403


def test_it_ends_after_ten_minutes(admin: AbstractUser, monkeypatch) -> None:
    token = token_for(admin)
    now = time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + LIFE_SECONDS + 1)
    assert spend(token) is None


def test_it_is_not_for_those_who_may_no_longer_enter(admin: AbstractUser) -> None:
    token = token_for(admin)
    admin.is_active = False
    admin.save()
    assert spend(token) is None


@pytest.mark.parametrize("token", ["", "x", "a:b:c", signing.dumps("text", salt="opspawn.admin-link")])
def test_what_was_not_signed_here_as_such_a_link_is_refused(token: str) -> None:
    assert spend(token) is None


@pytest.mark.parametrize("page", ["https://other.test/", "//other.test/", "\\\\other.test", "javascript:alert(1)"])
def test_it_never_leads_to_another_site(admin: AbstractUser, page: str) -> None:
    assert follow(link_for("http://site", admin, page))["Location"] == "/admin/"
