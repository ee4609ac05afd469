"""Text that PostgreSQL and UTF-8 take."""
from __future__ import annotations

import pytest

from llm.storable import clean


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("as it is 😀", "as it is 😀"),
        ("a\x00b", "a�b"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d\ud83d\ude00\ude00", "�😀�"),
        ("\ude00\ud83d", "��"),
    ],
)
def test_halves_that_belong_together_are_joined_and_the_rest_is_replaced(text, stored):
    assert clean(text) == stored
