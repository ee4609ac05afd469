"""The schema of an answer, when it is saved: no JSON Schema, one that leads out, and one that never ends."""
from __future__ import annotations

import time
from typing import Any

import pytest

from agents import config, schemas

TREE = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
DOUBLED = {
    "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)} | {"a30": True},
    "$ref": "#/$defs/a0",
}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def found(schema: Any) -> dict[str, str]:
    return {problem.pointer: problem.code for problem in schemas.check(schema, "/s")}


@pytest.mark.parametrize(
    "schema",
    [
        {}, {"type": "object"}, TREE, {"type": ["string", "null"], "pattern": "^[a-z]+$"}, {"enum": [1, None]},
        {"$schema": schemas.DRAFT}, {"$defs": {"a": {"type": "integer"}}, "$ref": "#/$defs/a"},
        {"properties": {"pattern": {"type": "string"}, "$id": {"type": "string"}}}, nested(32),
    ],
)  # fmt: skip
def test_a_schema_is_taken(schema):
    assert found(schema) == {}


@pytest.mark.parametrize(
    ("schema", "pointer", "code"),
    [
        (True, "", "wrong_type"), ([], "", "wrong_type"), (None, "", "wrong_type"), ("{}", "", "wrong_type"),
        ({"type": "objekt"}, "/type", "no_json_schema"), ({"properties": []}, "/properties", "no_json_schema"),
        ({"properties": {"a/b": {"minimum": "1"}}}, "/properties/a~1b/minimum", "no_json_schema"),
        ({"required": "a"}, "/required", "no_json_schema"), ({"items": [{}]}, "/items", "no_json_schema"),
        ({"$defs": {"a": {"type": 7}}}, "/$defs/a/type", "no_json_schema"),
        ({"pattern": "("}, "/pattern", "no_json_schema"), ({"pattern": r"(a)\1"}, "/pattern", "unbounded"),
        ({"patternProperties": {"(?=a)": {}}}, "/patternProperties/(?=a)", "unbounded"),
        ({"unevaluatedProperties": False}, "/unevaluatedProperties", "unbounded"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "unknown_value"),
        ({"$ref": "https://schemas.example/a.json"}, "/$ref", "remote_reference"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "/items/$ref", "remote_reference"),
        ({"$dynamicRef": "other.json"}, "/$dynamicRef", "remote_reference"),
        ({"$id": "https://schemas.example/"}, "/$id", "remote_reference"),
        ({"$ref": "#/$defs/nowhere"}, "", "unknown_reference"),
        ({"$ref": "#"}, "", "endless"), ({"anyOf": [{"$ref": "#"}]}, "", "endless"), (DOUBLED, "", "endless"),
        ({"description": "x" * 70_000}, "", "too_large"), (nested(40), "/not" * 33, "too_deep"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_where_it_is(schema, pointer, code):
    assert found(schema) == {f"/s{pointer}": code}


def test_a_schema_that_doubles_itself_thirty_times_is_refused_soon():
    started = time.monotonic()

    schemas.check(DOUBLED, "/s")

    assert time.monotonic() - started < 5


def test_an_agent_and_a_task_may_have_one_and_are_told_what_is_wrong_by_pointer():
    wrong = {"output_schema": {"type": "objekt"}}

    assert config.check({"output_schema": TREE}) == []
    assert config.check_overrides({"output_schema": TREE}, {}) == []
    assert [problem.pointer for problem in config.check(wrong)] == ["/config/output_schema/type"]
    assert [problem.pointer for problem in config.check_overrides(wrong, {})] == ["/agent_config/output_schema/type"]
