"""What each planner makes of a reply."""
from __future__ import annotations

import pytest

from agents.contract import Answer, AskModel, Observation, ToolUse, Unplannable
from agents.planners import BUILT_IN, planner
from agents.planners.native import NUDGE, NUDGE_CUT
from llm.messages import Message, Reply, ToolRequest, ToolSpec

USER = Message("user", "Add 5 and 3.")
GOOD = ToolRequest("call_1", "add_numbers", {"a": 5, "b": 3})
UNREADABLE = ToolRequest("call_2", "add_numbers", None, "cut short", '{"a": 5')
NATIVE = [
    (None, AskModel()),
    (Reply("8"), Answer("8")),
    (Reply(" 8\n"), Answer(" 8\n")),
    (Reply("Error: all failed"), Answer("Error: all failed")),
    (Reply("The first half of", finish_reason="length"), Answer("The first half of")),
    (Reply("Half a", finish_reason="content_filter"), Answer("Half a")),
    (Reply("", (GOOD,), "tool_calls"), ToolUse((GOOD,))),
    (Reply("Let me see.", (GOOD,), "tool_calls"), ToolUse((GOOD,))),
    (Reply("", (GOOD, UNREADABLE), "length"), ToolUse((GOOD, UNREADABLE))),
    (Reply(""), AskModel(NUDGE)),
    (Reply(" \n\t"), AskModel(NUDGE)),
    (Reply("", finish_reason="tool_calls"), AskModel(NUDGE)),
    (Reply("", finish_reason="length"), AskModel(NUDGE_CUT)),
]


@pytest.mark.parametrize(("reply", "decision"), NATIVE)
def test_the_native_planner_decides_from_the_reply(reply, decision):
    conversation = (USER,) if reply is None else (USER, reply.message())

    assert planner("native").decide(conversation, reply) == decision


def test_an_answer_withheld_by_a_content_filter_is_content_filtered():
    reply = Reply("", finish_reason="content_filter")

    decision = planner("native").decide((USER, reply.message()), reply)

    assert isinstance(decision, Unplannable)
    assert decision.error_code == "content_filtered"


@pytest.mark.parametrize(
    ("nudge", "finish", "cure"), [(NUDGE, "stop", "another model"), (NUDGE_CUT, "length", "max_output_tokens")]
)
def test_a_second_empty_reply_is_a_planner_error_that_names_the_cure(nudge, finish, cure):
    reply = Reply("", finish_reason=finish)
    conversation = (USER, Reply("").message(), nudge, reply.message())

    decision = planner("native").decide(conversation, reply)

    assert isinstance(decision, Unplannable)
    assert decision.error_code == "planner_error"
    assert cure in decision.detail


def test_calls_of_which_none_can_be_carried_out_are_told_once_and_then_a_planner_error():
    tools = (ToolSpec("add_numbers", "Add.", {"type": "object"}),)
    wrong = Reply("", (ToolRequest("call_3", "sun_dial", {}), UNREADABLE), "tool_calls")
    told = [Message("tool", "Error", tool_call_id=request.id, failed=True) for request in wrong.tool_requests]

    def decided(first, second):
        conversation = (USER, first.message(), *told[: len(first.tool_requests)], second.message())
        return planner("native", tools).decide(conversation, second)

    assert planner("native", tools).decide((USER, wrong.message()), wrong) == ToolUse(wrong.tool_requests)
    assert decided(wrong, wrong).error_code == "planner_error"
    assert "sun_dial, add_numbers. Its tools: add_numbers." in decided(wrong, wrong).detail
    one_is_good = Reply("", (GOOD, UNREADABLE), "tool_calls")
    assert decided(wrong, one_is_good) == ToolUse(one_is_good.tool_requests)
    assert decided(one_is_good, wrong) == ToolUse(wrong.tool_requests)


def test_a_user_who_writes_the_words_of_the_nudge_still_gets_a_repair_turn():
    reply = Reply("")

    assert planner("native").decide((NUDGE, reply.message()), reply) == AskModel(NUDGE)


def test_an_opening_that_ends_with_the_assistant_asks_the_model():
    conversation = (USER, Message("assistant", "It is"))

    assert planner("native").decide(conversation, None) == AskModel()


def test_a_result_goes_back_under_its_call_id():
    message = planner("native").observe(GOOD, Observation(output={"sum": 8}, text='{"sum": 8}'))

    assert message == Message("tool", '{"sum": 8}', tool_call_id="call_1")


@pytest.mark.parametrize(
    ("content", "goal"),
    [
        ("Add 5 and 3.", "Add 5 and 3."),
        ([{"type": "text", "text": "See:"}, {"type": "image_url"}], "See:\n(image_url)"),
    ],
)
def test_the_placeholder_planner_answers_with_a_label_and_the_goal(content, goal):
    decision = planner("placeholder").decide((Message("system", "x"), Message("user", content)), None)

    assert decision == Answer(f"[placeholder answer, no model was called] Goal: {goal}")


def test_a_planner_is_made_anew_for_each_run():
    assert all(planner(name) is not planner(name) for name in BUILT_IN)
