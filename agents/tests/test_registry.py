"""The registry: what a function becomes, and what each kind of call that goes wrong tells the model."""
from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from agents.tools.output import MAX_OUTPUT_BYTES
from agents.tools.registry import Registry, ToolError
from llm.messages import ToolRequest

PLAIN = {"effect": "none", "timeout_seconds": 5, "in_worker": True}


def called(function, arguments: Any = None, *, timeout_seconds: float = 5, seconds_left: float = 60):
    """The observation of one call of a function registered alone."""
    registry = Registry()
    registry.tool(**PLAIN | {"timeout_seconds": timeout_seconds})(function)
    request = ToolRequest("call_1", function.__name__, {} if arguments is None else arguments)
    return registry.act(request, frozenset({function.__name__}), seconds_left)


def circle() -> list[Any]:
    round_and_round: list[Any] = []
    round_and_round.append(round_and_round)
    return round_and_round


def well(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def greet(name: str, times: int = 1, loud: bool = False) -> str:
    """Say hello to somebody.

    Politely.

    Args:
        name: Whom to greet,
            by first name.
        times: How often.
    """
    return " ".join([f"hello {name}{'!' * loud}"] * times)


def test_a_schema_comes_from_signature_and_docstring():
    registry = Registry()
    registry.tool(**PLAIN)(greet)

    (spec,) = registry.specs(["greet"])

    assert (spec.name, spec.description) == ("greet", "Say hello to somebody.\n\nPolitely.")
    assert spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "Whom to greet, by first name."},
            "times": {"type": "integer", "default": 1, "description": "How often."},
            "loud": {"type": "boolean", "default": False},
        },
        "required": ["name"],
    }


def test_a_call_gives_the_value_and_its_text():
    seen = called(greet, {"name": "Miso", "times": 2})

    assert (seen.output, seen.text, seen.failed) == ("hello Miso hello Miso", "hello Miso hello Miso", False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "argument 'name' is required"),
        ({"name": 5}, "argument 'name' must be a string, not 5"),
        ({"name": None}, "argument 'name' must be a string, not null"),
        ({"name": "x", "times": "2"}, "argument 'times' must be a number, not \"2\""),
        ({"name": "x", "times": True}, "argument 'times' must be a number, not true"),
        ({"name": "x", "loud": 1}, "argument 'loud' must be true or false, not 1"),
        ({"name": "x", "age": 3}, "argument 'age' is not known (known: name, times, loud)"),
        ({"times": "a", "age": 3}, "argument 'name' is required; argument 'times' must be a number, not \"a\"; "
                                   "argument 'age' is not known (known: name, times, loud)"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_naming_each(arguments, told):
    assert called(greet, arguments).text == f"Error: greet: {told}"


ODD = {"key": {"\ud800": 1}, "long": {"name": ["x"] * 10**5},
       "huge": {"times": [10**5000]}, "deep": {"name": well(5000)}}  # fmt: skip


@pytest.mark.parametrize("arguments", ODD.values(), ids=ODD)
def test_odd_arguments_are_told_in_text_that_can_be_stored(arguments):
    seen = called(greet, arguments)

    assert len(seen.text.encode()) < 500


def test_unreadable_arguments_are_told_with_the_reason():
    registry = Registry()
    registry.tool(**PLAIN)(greet)
    request = ToolRequest("call_1", "greet", None, error="cut off at character 7", raw='{"name"')

    seen = registry.act(request, frozenset({"greet"}), 60)

    assert seen.error.startswith("The arguments of greet could not be read (cut off at character 7). Call it again")


@pytest.mark.parametrize("name", ["nothing", "greet", "greet\0\ud800" + "x" * 1000])
def test_a_tool_that_the_agent_does_not_have_is_unknown(name):
    registry = Registry()
    registry.tool(**PLAIN)(greet)

    seen = registry.act(ToolRequest("call_1", name, {"name": "x"}), frozenset({"b", "a"}), 60)

    assert seen.error.startswith("There is no tool called 'gr" if "greet" in name else "There is no tool called 'no")
    assert seen.error.endswith("Your tools: a, b.")
    assert len(seen.error) < 300


def broken() -> str:
    """Break."""
    raise KeyError("no such thing")


def exits() -> str:
    """Leave."""
    sys.exit(3)


def refuses() -> str:
    """Refuse."""
    raise ToolError("the moon is not full; try later")


async def gives_up() -> str:
    """Cancel itself."""
    raise asyncio.CancelledError


async def impatient() -> str:
    """Run into a timeout of its own."""
    raise TimeoutError("the other side")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (broken, "broken failed: KeyError: 'no such thing'"),
        (exits, "exits failed: SystemExit: 3"),
        (refuses, "refuses: the moon is not full; try later"),
        (gives_up, "gives_up failed: CancelledError: "),
        (impatient, "impatient failed: TimeoutError: the other side"),
    ],
)
def test_a_tool_that_raises_is_a_failed_call_with_its_reason(function, told):
    seen = called(function)

    assert (seen.error, seen.text, seen.output) == (told, f"Error: {told}", None)


async def naps(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


def dozes(seconds: float) -> str:
    """Sleep, in the way."""
    time.sleep(seconds)
    return "rested"


@pytest.mark.parametrize("function", [naps, dozes])
def test_a_tool_slower_than_its_timeout_is_a_failed_call(function):
    seen = called(function, {"seconds": 0.3}, timeout_seconds=0.1)

    assert seen.error == f"{function.__name__} took longer than its 0.1 seconds and was given up."


@pytest.mark.parametrize("function", [naps, dozes])
def test_a_tool_faster_than_its_timeout_is_not(function):
    assert called(function, {"seconds": 0.01}, timeout_seconds=5).output == "rested"


def test_an_async_tool_is_ended_when_the_task_has_no_time_left():
    began = time.monotonic()

    seen = called(naps, {"seconds": 30}, timeout_seconds=30, seconds_left=0.05)

    assert seen.failed
    assert time.monotonic() - began < 5


def returning(value: Any):
    def gives() -> Any:
        """Give it."""
        return value

    return gives


NOT_JSON = {
    "nan": float("nan"), "infinity": [float("inf")], "set": {1, 2}, "object": object(), "bytes": b"x",
    "circle": circle(), "well": well(5000), "huge": 10**5000,
}  # fmt: skip


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_a_failed_call(value):
    assert called(returning(value)).error.startswith("gives returned something that is not JSON: ")


@pytest.mark.parametrize(
    ("value", "output", "text"),
    [
        (8, 8, "8"),
        (None, None, "null"),
        ("", "", "(empty)"),
        ("é", "é", "é"),
        ({"sum": 8}, {"sum": 8}, '{"sum": 8}'),
        ((1, 2), [1, 2], "[1, 2]"),
        ({1: "a"}, {"1": "a"}, '{"1": "a"}'),
        ("a\0b\ud800", "a�b�", "a�b�"),
        ({"k\0": ["\udfff"]}, {"k�": ["�"]}, '{"k�": ["�"]}'),
        (10**400, 10**400, "1" + "0" * 400),
    ],
)
def test_what_is_json_is_stored_and_told(value, output, text):
    seen = called(returning(value))

    assert (seen.output, seen.text, seen.error) == (output, text, "")


@pytest.mark.parametrize(("size", "cut"), [(-1, False), (0, False), (1, True), (1024 * 1024, True)])
def test_output_over_64_kib_is_cut_with_a_marker(size, cut):
    seen = called(returning("x" * (MAX_OUTPUT_BYTES + size)))

    whole = MAX_OUTPUT_BYTES + size
    assert seen.output.endswith(f"[cut: these are the first 65536 of {whole} bytes]") == cut
    assert seen.text == seen.output


def test_a_cut_never_splits_a_character_and_counts_bytes_of_json():
    seen = called(returning(["é" * MAX_OUTPUT_BYTES]))

    assert seen.output.startswith('["éé')
    assert "first 65536 of 131076 bytes" in seen.output


def test_a_long_reason_is_cut_too():
    def shouts() -> str:
        """Shout."""
        raise ToolError("x" * 10**6)

    assert len(called(shouts).error) < MAX_OUTPUT_BYTES + 100


def test_a_name_can_be_registered_once():
    registry = Registry()
    registry.tool(**PLAIN)(greet)

    with pytest.raises(ValueError, match="'greet' is already registered"):
        registry.tool(**PLAIN)(greet)


def test_a_tool_that_needs_a_process_of_its_own_is_refused_until_there_is_one():
    with pytest.raises(NotImplementedError, match="there is no tool process yet"):
        Registry().tool(effect="once", timeout_seconds=5, in_worker=False)


def test_a_function_without_docstring_or_types_is_no_tool():
    def silent(a: int) -> int:
        return a

    def untyped(a) -> int:
        """Give it back."""
        return a

    def loose(*words: str) -> int:
        """Count."""
        return len(words)

    for function in (silent, untyped, loose):
        with pytest.raises(TypeError):
            Registry().tool(**PLAIN)(function)


def test_patterns_stand_for_names_each_once_in_the_order_given():
    from agents.tools.registry import REGISTRY

    assert REGISTRY.resolve(["calculator", "*_numbers", "add_*"]) == ("calculator", "add_numbers", "subtract_numbers")
    assert REGISTRY.resolve(["no_such_*"]) == ()


def test_tools_are_listed_without_pydantic():
    code = (
        "import sys, json; from agents.tools.registry import names;"
        "print(json.dumps([names(), 'pydantic' in sys.modules]))"
    )

    listed, loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    assert [name for name, _, _ in listed] == ["add_numbers", "calculator", "current_time", "subtract_numbers"]
    assert all(description and effect == "none" for _, description, effect in listed)
    assert not loaded
