"""Tool arguments as models write them."""
from __future__ import annotations

import pytest

from llm.arguments import request


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": [1, 2,], "b": {"c": 3, }, }', {"a": [1, 2], "b": {"c": 3}}),
        ('{"text": ",] and ,} stay",}', {"text": ",] and ,} stay"}),
        ('{"text": "two\nlines"}', {"text": "two\nlines"}),
        ('{"n": 12345678901234567890}', {"n": 12345678901234567890}),
        ("", {}),
        ("  ", {}),
        (None, {}),
        ("null", {}),
        ('{"a\\u0000": "\\ud800"}', {"a�": "�"}),
    ],
)
def test_an_object_is_read_however_it_was_written(written, read):
    made = request("id", "f", written)

    assert (made.arguments, made.error) == (read, "")


@pytest.mark.parametrize(
    "written",
    [
        '{"a": 1',
        '{"a": "cut',
        '{"a"',
        "a = 1",
        "[1, 2]",
        "7",
        '"text"',
        "true",
        '{"a": NaN}',
        '{"a": 1e999}',
        "[" * 100_000,
        '"\\"{}\\""',
    ],
)
def test_what_is_cut_short_or_no_object_is_told_and_kept(written):
    made = request("id", "f", written)

    assert made.arguments is None
    assert "JSON object" in made.error
    assert made.raw == written[:20_000]


def test_what_cannot_be_stored_is_replaced_in_what_is_kept():
    made = request("i\x00d", "f\ud800", '{"a": "\x00')

    assert (made.id, made.name, made.raw) == ("i�d", "f�", '{"a": "�')
