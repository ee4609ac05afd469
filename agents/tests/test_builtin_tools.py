"""The built-in tools, called as a model calls them."""
from __future__ import annotations

import math
import time
from datetime import datetime, timedelta

import pytest

from agents.tools.registry import act, names
from llm.messages import ToolRequest


def use(name: str, **arguments):
    return act(ToolRequest("call_1", name, arguments), frozenset(tool.name for tool in names()), 60)


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("7 // 2", 3),
        ("6 / 2", 3.0),
        ("7 % 3", 1),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("+5 - -5", 10),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("sqrt(16)", 4.0),
        ("round(2.567, 2)", 2.57),
        ("max(1, 2, 3) + abs(-4)", 7),
        ("2 * pi", 2 * math.pi),
        ("factorial(5)", 120),
        ("  1 +\t1 ", 2),
        ("+".join(str(n) for n in range(1, 101)), 5050),
        ("2 ** 4095", 2**4095),
        ("1 ** 999999999999", 1),
        ("(-1) ** 99999", -1),
        ("9" * 900, int("9" * 900)),
    ],
)
def test_the_calculator_gives_the_number(expression, number):
    seen = use("calculator", expression=expression)

    assert seen.output == number
    assert type(seen.output) is type(number)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "not arithmetic"),
        ("2 +", "not arithmetic"),
        ("1,000 + 1", "thousands separators"),
        ("2 ^ 10", "write powers as **"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("sqrt(-1)", "math domain error"),
        ("(-8) ** 0.5", "not a real number"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 4096", "too large"),
        ("10.0 ** 400", "too large"),
        ("10 ** 400 / 3", "too large"),
        ("1e999", "too large"),
        ("1e308 * 10", "too large"),
        ("exp(1000)", "too large"),
        ("factorial(401)", "factorial takes"),
        ("factorial(True)", "not a number"),
        ("round(5, -10 ** 9)", "round takes"),
        ("min()", "at least 1 argument"),
        ("x + 1", "'x' is not known"),
        ("True", "not a number"),
        ("'a' * 9", "not a number"),
        ("1j", "not a number"),
        ("[1]", "not arithmetic"),
        ("1 < 2", "not arithmetic"),
        ("not 1", "not arithmetic"),
        ("lambda: 1", "not arithmetic"),
        ("max(*[1])", "not arithmetic"),
        ("round(number=1)", "cannot be called"),
        ("open('/etc/passwd')", "cannot be called"),
        ("__import__('os').system('true')", "cannot be called"),
        ("(1).__class__", "not arithmetic"),
        ("\0", "not arithmetic"),
        ("\ud800", "not arithmetic"),
        ("-" * 900 + "1", "nested too deeply"),
        ("+".join("1" * 400), "nested too deeply"),
        ("(" * 400 + "1" + ")" * 400, "not arithmetic"),
        ("abs(" * 240 + "1" + ")" * 240, ""),
        ("1" * 1001, "at most 1000"),
    ],
)
def test_the_calculator_says_why_there_is_no_number(expression, told):
    began = time.monotonic()

    seen = use("calculator", expression=expression)

    assert seen.failed
    assert told in seen.text
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("name", "a", "b", "output"),
    [
        ("add_numbers", 5, 3, {"sum": 8}),
        ("add_numbers", 10**400, 1, {"sum": 10**400 + 1}),
        ("add_numbers", 0.5, 1, {"sum": 1.5}),
        ("subtract_numbers", 5, 3, {"difference": 2}),
        ("subtract_numbers", 5, 3.5, {"difference": 1.5}),
    ],
)
def test_numbers_are_added_and_subtracted_and_whole_ones_stay_whole(name, a, b, output):
    seen = use(name, a=a, b=b)

    assert seen.output == output
    assert [type(value) for value in seen.output.values()] == [type(value) for value in output.values()]


@pytest.mark.parametrize(("a", "b"), [("5", 3), (True, 3), (5, None), (float("nan"), 1), (5, [3])])
def test_what_is_no_number_is_not_added(a, b):
    assert "must be a number" in use("add_numbers", a=a, b=b).error


@pytest.mark.parametrize(("a", "b"), [(1e308, 1e308), (10**400, 0.5)])
def test_a_sum_that_is_no_json_number_is_refused(a, b):
    assert use("add_numbers", a=a, b=b).error == "add_numbers: the result is too large"


@pytest.mark.parametrize("arguments", [{}, {"timezone": "UTC"}, {"timezone": "Asia/Kolkata"}])
def test_the_current_time_is_rfc_3339_with_its_offset(arguments):
    told = datetime.fromisoformat(use("current_time", **arguments).output)

    assert told.utcoffset() == timedelta(hours=5.5 if arguments.get("timezone") == "Asia/Kolkata" else 0)
    assert abs(datetime.now(told.tzinfo) - told) < timedelta(seconds=60)


@pytest.mark.parametrize("zone", ["Mars", "", "../etc/passwd", "/etc/passwd", "America", "x" * 5000, "\0", "\ud800"])
def test_an_unknown_time_zone_is_told_with_a_cure(zone):
    assert "use one such as 'Europe/Berlin'" in use("current_time", timezone=zone).error
