"""Regular expressions matched without backtracking: the same verdicts as Python's matcher, in bounded work."""
from __future__ import annotations

import re

import pytest

from agents.patterns import Unbounded, automaton

EXPRESSIONS = [
    "abc", "^a+$", "(a|b)*c", "a{2,4}b", "[^a-c]x", r"\d{3}-\d{4}", "^(a+)+$", "(a|aa)+$", "x?y??z", r"\bfoo\b", "^$",
    "", "a|", "(?:ab|cd){2,}", r"[\w.]+@[\w.]+", r"^[A-Z]{2}\d*$", ".", "a.c", "[]a]", r"[\]^-]", r"\$5", "(ab)*?c",
    r"\S+\s\D", "(?P<name>a)b", r"\B-", "é+",
]  # fmt: skip
TEXTS = [
    "", "abc", "aaa", "aab", "ab", "babac", "aaaab", "aab aaab", "dx", "ax", "555-1234", "cdab", "foo bar", "afoo",
    "x@y.z", "AB12", "AB", "yz", "xyz", "z", "a\nc", "]", "^", "-", "$5", "ababc", " foo", "éé",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_it_finds_what_pythons_matcher_finds(expression):
    found = [automaton(expression).found_in(text, lambda steps: None) for text in TEXTS]

    assert found == [re.search(expression, text) is not None for text in TEXTS]


@pytest.mark.parametrize("expression", ["^(a+)+$", "(a|aa)+$", "^(a*)*(a*)*(a*)*$", "(.*)(.*)(.*)(.*)x"])
def test_the_work_grows_with_the_text_and_not_beyond(expression):
    def steps(length: int) -> int:
        counted: list[int] = []
        automaton(expression).found_in("a" * length + "!", counted.append)
        return sum(counted)

    assert steps(2000) <= 2.1 * steps(1000)


@pytest.mark.parametrize(
    "expression",
    ["(?=a)b", "(?!a)b", "a(?<!b)", r"(a)\1", "(?i)a", "(?i:a)", "a{1,100000}", "(a{100}){100}", "(){4294967294}",
     "(?>a)b", "a++"],
)  # fmt: skip
def test_what_cannot_be_bounded_is_refused(expression):
    with pytest.raises(Unbounded):
        automaton(expression)


@pytest.mark.parametrize("expression", ["(", "[z-a]", r"\p{L}", "*"])
def test_what_is_no_expression_is_told(expression):
    with pytest.raises(re.error):
        automaton(expression)
