"""Statements that are prepared on the server, and a table that changes under them."""
from __future__ import annotations

import psycopg
import pytest
from django.db import NotSupportedError, connection, transaction

from tasks import prepared
from tasks.tests.workers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

READ = "SELECT name FROM changing WHERE id = %s"


@pytest.fixture
def changing():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE changing (id int, name varchar(10)); INSERT INTO changing VALUES (1, 'one')")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE changing")


def widen() -> None:
    """As another process would: psycopg forgets the plans of the connection that it sees do this."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("ALTER TABLE changing ALTER COLUMN name TYPE varchar(20)")


def test_a_column_that_was_changed_by_a_rolling_deploy_costs_no_statement(changing):
    assert prepared.row(READ, ["1"]) == ("one",)
    widen()

    assert prepared.row(READ, ["1"]) == ("one",)


def test_inside_a_transaction_the_caller_is_told(changing):
    assert prepared.row(READ, ["1"]) == ("one",)
    widen()

    with pytest.raises(NotSupportedError, match="cached plan"), transaction.atomic():
        prepared.row(READ, ["1"])
