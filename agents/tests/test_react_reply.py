"""Replies as models write them under the react protocol, and what is read from each."""
from __future__ import annotations

import time

import pytest

from agents.planners.react_reply import CUT_SHORT, Call, Final, Unreadable, read

SUM = {"a": 5, "b": 3}
CALLS = {
    "plain": 'Thought: I add.\nAction: add_numbers\nAction Input: {"a": 5, "b": 3}',
    "no thought": 'Action: add_numbers\nAction Input: {"a": 5, "b": 3}',
    "text before and after": 'Sure, let me help!\n\nAction: add_numbers\nAction Input: {"a": 5, "b": 3}\nI will wait.',
    "pretty printed": 'Action: add_numbers\nAction Input: {\n  "a": 5,\n  "b": 3\n}\n',
    "fenced": 'Action: add_numbers\nAction Input: ```json\n{"a": 5, "b": 3}\n```\nThat is it.',
    "fenced over lines": 'Action: add_numbers\nAction Input:\n```\n{\n "a": 5,\n "b": 3\n}\n```',
    "a fence that does not close": 'Action: add_numbers\nAction Input:\n```json\n{"a": 5, "b": 3}',
    "bold labels": '**Thought:** I add.\n**Action:** `add_numbers`\n**Action Input:** {"a": 5, "b": 3}',
    "headings and numbers": '### Thought 1: x\n### Action 1: add_numbers\n### Action Input 1: {"a": 5, "b": 3}',
    "lower case": 'thought: x\naction: add_numbers\naction input: {"a": 5, "b": 3}',
    "windows lines": 'Thought: x\r\nAction: add_numbers\r\nAction Input: {"a": 5,\r\n"b": 3}\r\n',
    "name in brackets": 'Action: [add_numbers]\nAction Input: {"a": 5, "b": 3}',
    "name in quotes": 'Action: "add_numbers"\nAction Input: {"a": 5, "b": 3}',
    "name and input on lines of their own": 'Action:\nadd_numbers\nAction Input:\n\n{"a": 5, "b": 3}',
    "one line": 'Action: add_numbers Action Input: {"a": 5, "b": 3}',
    "all on one line": 'Thought: I add. Action: add_numbers Action Input: {"a": 5, "b": 3}',
    "a trailing comma": 'Action: add_numbers\nAction Input: {"a": 5, "b": 3,}\nObservation: 9',
    "arguments as a string": 'Action: add_numbers\nAction Input: "{\\"a\\": 5, \\"b\\": 3}"',
    "words before the JSON": 'Action: add_numbers\nAction Input: with these: {"a": 5, "b": 3}',
    "like a call": 'Action: add_numbers({"a": 5, "b": 3})',
    "a blob": 'Action:\n```json\n{"action": "add_numbers", "action_input": {"a": 5, "b": 3}}\n```',
    "a blob with other keys": 'Action: {"tool": "add_numbers", "arguments": {"a": 5, "b": 3}}',
    "several actions": 'Action: add_numbers\nAction Input: {"a": 5, "b": 3}\nAction: other\nAction Input: {}',
    "an observation made up": (
        'Action: add_numbers\nAction Input: {"a": 5, "b": 3}\nObservation: 9\nThought: done\nFinal Answer: 9'
    ),
    "an answer that is guessed": 'Action: add_numbers\nAction Input: {"a": 5, "b": 3}\nFinal Answer: 9',
    "the first Opspawn": 'Thought: x\nAction: Tool Name: add_numbers Input: {"a": 5, "b": 3}',
    "the first Opspawn over lines": 'Action: Tool Name: add_numbers Input: {\n "a": 5,\n "b": 3\n}\nObservation: 9',
    "the first Opspawn on lines of their own": 'Action:\nTool Name: add_numbers\nInput: {"a": 5, "b": 3}',
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_read_with_exactly_its_arguments(name):
    said = read(CALLS[name])

    assert isinstance(said, Call)
    assert (said.request.name, said.request.arguments, said.request.id) == ("add_numbers", SUM, "")


@pytest.mark.parametrize("name", CALLS)
def test_what_is_kept_of_a_reply_says_the_same_call_and_nothing_after_it(name):
    said = read(CALLS[name])
    kept = CALLS[name][: said.end]

    assert read(kept).request == said.request
    assert not any(word in kept for word in ("Observation", "Final", "other", "wait"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Final Answer: 8", "8"),
        ("Thought: I know.\nFinal Answer: 8", "8"),
        ("Thought: I know. Final Answer: 8", "8"),
        ("Final Answer:\nFirst line.\n\nSecond line.\n- a list", "First line.\n\nSecond line.\n- a list"),
        ("Final Answer: see\nObservation: the sky\nAction: none", "see\nObservation: the sky\nAction: none"),
        ('Final Answer: ```json\n{"a": 1}\n```', '```json\n{"a": 1}\n```'),
        ("**Final Answer:** 8", "8"), ("**Final Answer: 8**", "8"), ("Final Answer: **8** apples", "**8** apples"),
        ("final answer: 8", "8"), ("Final_Answer: 8", "8"),
        ("Action: Final Answer: The sum\nis 8.", "The sum\nis 8."),
        ("Action: Final Answer\nAction Input: 8", "8"),
        ("Action: None\nFinal Answer: 8", "8"), ("Action: None\nAction Input: None\nFinal Answer: 8", "8"),
        ('Action: {"action": "Final Answer", "action_input": "8"}', "8"),
        ("Observation: 8\nThought: as I was told\nFinal Answer: 8", "8"),
        ("Final Answer: error: all failed", "error: all failed"),
    ],
)  # fmt: skip
def test_a_final_answer_is_everything_after_its_label(text, answer):
    assert read(text) == Final(answer)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"), (" \n", "it is empty"),
        ("The answer is 8.", "neither"), ("qwertz", "neither"), ('{"a": 5}', "neither"), ("Thought: hm", "neither"),
        ("Final Answer:", "Final Answer is empty"), ("Action:", "names no tool"), ("Action: None", "names no tool"),
        ("Action: I look it up\nAction Input: x", "names no tool"), ("Action: " + "x" * 101, "names no tool"),
        ('Action: {"a": 5}', "names no tool"), ('Action: {"action": "x", ', "not readable"),
        ("Thought: I add.\nObservation: 8\nFinal Answer: 8", "makes up an observation"),
    ],
)  # fmt: skip
def test_what_is_neither_a_call_nor_an_answer_says_why(text, told):
    said = read(text)

    assert isinstance(said, Unreadable)
    assert told in said.reason


@pytest.mark.parametrize(
    "given",
    [
        '{"a": 5, "b": ', '{"a": 5, "b": 3', '{"a": "5', "```json\n{\n  \"a\": 5,", "{'a': 5}", "5 + 3", "[5, 3]", "5",
        '"text"', '{"a": NaN}', '{"a": 5} or {', "a=5, b=3",
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", ["", "\nObservation: 8", "\nFinal Answer: 8"])
def test_arguments_that_are_cut_short_or_no_object_are_none_and_say_so(given, after):
    said = read(f"Action: add_numbers\nAction Input: {given}{after}")

    if given == '{"a": 5} or {':  # an object, and then words
        assert said.request.arguments == {"a": 5}
    else:
        assert said.request.arguments is None
        assert said.request.error


@pytest.mark.parametrize("text", ["Action: now", "Action: now\nAction Input:", "Action: now\nAction Input: none"])
def test_a_call_without_arguments_is_one_unless_the_reply_was_cut(text):
    assert read(text).request.arguments == {}
    if "none" not in text:
        cut = read(text, cut=True).request
        assert (cut.arguments, cut.error) == (None, CUT_SHORT)


def test_a_line_break_inside_a_string_does_not_end_the_arguments():
    said = read('Action: write\nAction Input: {"text": "a\nObservation: b\nFinal Answer: c"}\nObservation: done')

    assert said.request.arguments == {"text": "a\nObservation: b\nFinal Answer: c"}


LONG = {
    "quotes": 'Action: a\nAction Input: {"' + '\\"' * 100_000, "dashes": "-" * 200_000,
    "spaces": "Action: " + " " * 200_000 + "x", "labels": "Action:\n" * 40_000,
    "thoughts": "Thought:\n" * 40_000 + "Action: None\nFinal Answer: 1", "braces": "Action: a\nInput: " + "{" * 200_000,
    "call": "Action: f(" + ") " * 100_000 + "x", "inline": "x Action: " * 40_000,
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_no_reply_holds_the_worker(name):
    began = time.process_time()

    read(LONG[name])

    assert time.process_time() - began < 5  # hours, if it grew with the square; milliseconds as it is
