"""The people that the admin's tests let in, and what they are shown."""
from __future__ import annotations

import html
import re
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

WHOLE_TABLE = re.compile(r"SELECT COUNT\(\*\)[^(]*FROM \"(tasks_|auditlog_|agents_)", re.IGNORECASE)


def person(name: str, *, group: str = "", superuser: bool = False) -> Client:
    """A browser in which that person is logged in."""
    user = User.objects.create(username=name, is_staff=True, is_superuser=superuser)
    if group:
        user.groups.add(Group.objects.get(name=group))
    browser = Client()
    browser.force_login(user)
    return browser


def text_of(response: Any) -> str:
    """The words of a page, without its tags, white space folded."""
    page = re.sub(r"<(script|style).*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def queries_of(browser: Client, url: str) -> list[str]:
    """The SQL of one page, which must be there."""
    with CaptureQueriesContext(connection) as captured:
        response = browser.get(url)
    assert response.status_code == 200, response.content[:500]
    return [query["sql"] for query in captured]


def assert_cheap(queries: list[str], most: int = 12) -> None:
    assert len(queries) <= most, "\n".join(queries)
    assert not [sql for sql in queries if WHOLE_TABLE.search(sql)], "\n".join(queries)
