"""What people read of two configurations."""
from __future__ import annotations

import time

import pytest

from agents.differences import differences


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("a\nb\nc\nd\ne", "a\nb\nX\nd\ne", [("same", "b"), ("minus", "c"), ("plus", "X"), ("same", "d")]),
        ("a\na", "a\na\na", [("same", "a"), ("plus", "a")]),
        ("a", "b", [("minus", "a"), ("plus", "b")]),
        ("a\nb", "b", [("minus", "a"), ("same", "b")]),
        ("a", "a\nb", [("same", "a"), ("plus", "b")]),
    ],
)
def test_changed_lines_are_shown_with_one_line_around_them(before, after, shown):
    (one,) = differences({"instructions": before}, {"instructions": after})

    assert sorted(one.lines) == sorted(shown)


def test_one_line_changed_in_a_very_long_text_is_shown_alone():
    lines = [str(number) for number in range(100_000)]
    changed = [*lines[:50_000], "new", *lines[50_000:]]

    (one,) = differences({"instructions": "\n".join(lines)}, {"instructions": "\n".join(changed)})

    assert one.lines == (("same", "49999"), ("plus", "new"), ("same", "50000"))


def test_two_texts_of_many_lines_that_repeat_take_no_hours():
    before, after = ("\n".join(str(number * step % 150) for number in range(1, 100_000)) for step in (1, 7))
    began = time.thread_time()

    (one,) = differences({"instructions": before}, {"instructions": after})

    assert time.thread_time() - began < 5
    assert len(one.lines) == 200
    assert {sign for sign, _ in one.lines} == {"minus", "plus"}
