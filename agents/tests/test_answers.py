"""Answers that have to fit a schema: how they may be written, what is told about them, and how long that may take."""
from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from agents import loop
from agents.answers import fenced, judge, read, repair
from agents.contract import Outcome
from agents.tests.runs import a_run, calls, says

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
ANNA = {"name": "Anna", "age": 7}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Anna", "age": 7}', '\n{\n  "name": "Anna",\n  "age": 7\n}\n',
        '```json\n{"name": "Anna", "age": 7}\n```', '```\n{"name": "Anna",\n "age": 7}\n```',
        'Here it is:\n```json\n{"name": "Anna", "age": 7}\n```\nAnything else?',
        'First try:\n```json\n{"name": 1}\n```\nBetter:\n```json\n{"name": "Anna", "age": 7}\n```',
        'The answer is {"name": "Anna", "age": 7}.', "\r\n```JSON\r\n{\"name\": \"Anna\", \"age\": 7}\r\n```\r\n",
    ],
)  # fmt: skip
def test_an_answer_may_be_pretty_printed_fenced_or_among_words(text):
    assert judge(text, PERSON).value == ANNA


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"), ("I cannot do that.", "not one JSON value"), ('{"name": "Anna",', "not one JSON value"),
        ('{"name": 7}', "at /name: 7 is not of type 'string'"), ("{}", "at the root: 'name' is a required property"),
        ('{"name": "a", "age": -1}', "at /age"), ('{"name": "a", "x": 1}', "unknown keys: 'x'"), ("[]", "at the root"),
        ('{"name": NaN}', "NaN is not JSON"), ('{"name": 1e999}', "too large"), ("null", "at the root"),
        ("[" * 200 + "]" * 200, "nested deeper"), ("[" * 100_000, "nested deeper"), ('"' * 1_000_001, "characters"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_by_pointer(text, told):
    judged = judge(text, PERSON)

    assert judged.value is None
    assert told in "\n".join(judged.problems)
    assert told in repair(judged.problems).content


def test_many_problems_are_told_briefly():
    judged = judge("[" + ",".join(['"' + "x" * 500 + '"'] * 500) + "]", {"items": {"type": "integer"}})

    assert len(judged.problems) == 10
    assert all(len(problem) < 300 for problem in judged.problems)


ROWS = ",".join(f'{{"a": {n}}}' for n in range(60_000))
BOMBS: dict[str, tuple[str, dict[str, Any]]] = {
    "regex": ('{"a": "' + "a" * 900_000 + '!"}', {"properties": {"a": {"pattern": "^(a+)+$"}}}),
    "keys": ('{"' + "a" * 900_000 + '!": 1}', {"patternProperties": {"^(a|aa)+$": {"type": "string"}}}),
    "doubling": ("{}", {
        "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": True},
        "$ref": "#/$defs/a0",
    }),
    "branches": (f"[{ROWS}]", {"anyOf": [{"type": "string"}] * 3000}),
    "constants": (f"[{ROWS}]", {"items": {"enum": list(range(5000))}}),
    "repeated": (f"[{ROWS}]", {"allOf": [{"uniqueItems": True}] * 1000}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_no_schema_and_no_answer_holds_the_worker(name):
    started = time.monotonic()

    judged = judge(*BOMBS[name])

    assert judged.problems
    assert time.monotonic() - started < 30  # hours or minutes without a bound; two seconds on an idle machine


def test_an_endless_schema_from_before_it_was_refused_is_a_problem_and_no_crash():
    assert "cannot be followed" in judge("{}", {"$ref": "#"}).problems[0]
    assert "cannot be followed" in judge("{}", {"$ref": "#/$defs/gone"}).problems[0]


def test_no_reference_is_ever_fetched():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.json"

        assert "cannot be followed" in judge("{}", {"$ref": address}).problems[0]
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    ("items", "unique"), [("1, 2", True), ("1, 1.0", False), ("1, true", True), ('{"a": [1]}, {"a": [1.0]}', False)]
)
def test_unique_items_are_told_apart_as_json_schema_does(items, unique):
    assert (not judge(f"[{items}]", {"uniqueItems": True}).problems) == unique


def test_a_valid_answer_is_the_outcome_as_an_object():
    run, world = a_run(calls("a"), says('```json\n{"name": "Anna", "age": 7}\n```'), output_schema=PERSON)

    assert loop.run(run) == Outcome("completed", ANNA)
    assert world.order.count("ask") == 2


def test_an_answer_that_does_not_fit_has_one_repair_turn_that_names_the_place():
    run, world = a_run(says('{"name": 7}'), says('{"name": "Anna", "age": 7}'), output_schema=PERSON)

    assert loop.run(run) == Outcome("completed", ANNA)
    nudge = world.turns[1].messages[-1]
    assert (nudge.role, "at /name" in nudge.content) == ("user", True)
    assert world.turns[1].fresh == (nudge,)


def test_after_one_repair_turn_it_is_output_invalid():
    run, world = a_run(says("no"), says('{"name": 7}'), says("never asked"), output_schema=PERSON)

    outcome = loop.run(run)

    assert (outcome.status, outcome.error_code) == ("failed", "output_invalid")
    assert "at /name: 7 is not of type 'string'" in outcome.detail
    assert len(world.turns) == 2


def test_tools_may_be_called_in_the_repair_turn_and_do_not_bring_another():
    run, world = a_run(says("no"), calls("a"), says("still no"), output_schema=PERSON)

    assert loop.run(run).error_code == "output_invalid"
    assert (world.used, len(world.turns)) == (["a"], 3)


def test_the_repair_turn_is_a_step_like_any_other():
    run, _ = a_run(says("no"), says("{}"), output_schema=PERSON, limits={"max_steps": 1})

    assert loop.run(run).error_code == "max_steps"


def test_a_second_run_of_the_same_answers_goes_the_same_way():
    replies = (says("no"), calls("a"), says('{"name": "Anna", "age": 7}'))
    first, second = a_run(*replies, output_schema=PERSON), a_run(*replies, output_schema=PERSON)

    assert loop.run(first[0]) == loop.run(second[0])
    assert first[1].turns == second[1].turns


HOSTILE = {
    "fences that open": "```json\n" * 125_000,
    "fences that open before a brace": "```json\n" * 120_000 + "{",
    "fences that open and close": "```json\n{\n```\n" * 70_000,
    "fences of all lengths": "\n".join("`" * count for count in range(3, 1400)),
    "backticks": "`" * 1_000_000,
    "a fence and blanks": "```" + " " * 900_000 + "x y\n```",
    "blank lines in a fence": "```\n" + "\n" * 900_000,
    "braces": "{" * 1_000_000,
    "pairs of braces": "{}" * 500_000,
    "quotes": '"' * 1_000_000,
    "escaped quotes": '"' + '\\"' * 499_000,
    "a brace and quotes": "{" + '"' * 999_000,
    "blanks": " " * 999_999 + "x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_a_million_hostile_characters_takes_no_minutes(name):
    began = time.thread_time()

    with suppress(ValueError):
        read(HOSTILE[name])

    assert time.thread_time() - began < 5  # a tenth of a second; minutes where it is quadratic


def test_a_fence_that_nothing_closes_hides_none_after_it():
    assert fenced("```json\n````json\n1\n````\n  ``` \n2\n```c++\r\n3\r\n```") == ["````json\n1\n````", "3\r"]
    assert fenced("````\n```json\n1\n```\n``` two words\n2\n```") == ["1"]


def test_a_number_too_large_to_be_divided_does_not_fit():
    judged = judge("1" + "0" * 400, {"type": "integer", "multipleOf": 0.1})

    assert "OverflowError" in judged.problems[0]
