"""Tool arguments as models write them."""
from __future__ import annotations

import time

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


HOSTILE = {
    "a JSON string of JSON, cut": '"{' + '\\"key\\": \\"value\\", ' * 45_000,
    "escaped quotes": '{"a": ' + '\\"' * 400_000,
    "quotes that close": '{"a": ' + '"' * 900_000,
    "an open string of backslashes": '{"a": "' + "\\" * 900_001,
    "commas": "{" + "," * 900_000,
    "commas and blanks": "{" + ("," + " " * 1000) * 900,
    "blanks": "{," + " " * 900_000 + "x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_mending_a_million_hostile_characters_takes_no_minutes(name):
    began = time.thread_time()

    made = request("id", "f", HOSTILE[name])

    assert made.arguments is None
    assert time.thread_time() - began < 5  # a tenth of a second; minutes where it is quadratic


@pytest.mark.parametrize(("more", "mended"), [(-1, True), (0, True), (1, False)])
def test_a_trailing_comma_is_mended_up_to_a_million_characters(more, mended):
    start, end = '{"a": "', '",}'
    written = start + "x" * (1_000_000 + more - len(start) - len(end)) + end

    assert (request("id", "f", written).arguments is not None) is mended


def test_commas_in_strings_with_escapes_and_line_breaks_stay():
    assert request("id", "f", '{"a": "\\",] \\\\", "b": "x\n,}", }').arguments == {"a": '",] \\', "b": "x\n,}"}
