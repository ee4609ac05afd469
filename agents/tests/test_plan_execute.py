"""The plan_execute planner in the loop: a plan first, its steps by tool calling, another plan when a step fails."""
from __future__ import annotations

import pytest

from agents import loop
from agents.contract import AskModel, Outcome
from agents.planners import planner
from agents.planners.plan_execute import GO, PLAN, PLAN_AGAIN, REVISE, REVISE_AGAIN, is_plan
from agents.tests.runs import a_run, calls, says
from llm.messages import Message, Reply, ToolSpec

TOOLS = (ToolSpec("a", "A.", {"type": "object"}), ToolSpec("broken", "B.", {"type": "object"}))
FIRST = says("Here is my plan:\n1. Use a.\n2. Answer.")
AGAIN = says("1. Use a instead.\n2. Answer.")


def run(*replies, **about):
    told, world = a_run(*replies, name="plan_execute", tools=TOOLS, **about)
    world.fails = {"broken", "nowhere"}
    return told, world


def asked(world):
    """What was said to the model before each of its turns."""
    return [turn.messages[-1] for turn in world.turns]


def test_a_plan_is_written_before_anything_is_done():
    told, world = run(FIRST, calls("a"), says("8"))

    assert loop.run(told) == Outcome("completed", "8")
    assert [call for call in world.order if call != "check"] == ["ask", "ask", "act", "ask"]
    assert asked(world)[:2] == [PLAN, GO]
    assert world.turns[1].messages[-2].content == FIRST.text


def test_no_tool_may_be_called_and_no_schema_binds_while_a_plan_is_written():
    told, world = run(FIRST, calls("a"), says("{}"), output_schema={"type": "object"})

    assert loop.run(told).answer == {}
    assert [turn.words_only for turn in world.turns] == [True, False, False]
    assert [turn.output_schema for turn in world.turns] == [None, {"type": "object"}, {"type": "object"}]
    assert [turn.tools for turn in world.turns] == [TOOLS] * 3  # the same prompt all along


def test_a_step_that_fails_has_the_plan_revised():
    told, world = run(FIRST, calls("broken"), AGAIN, calls("a"), says("8"))

    assert loop.run(told).answer == "8"
    assert world.used == ["broken", "a"]
    assert asked(world)[2:4] == [REVISE, GO]
    assert world.turns[2].words_only


def test_one_failure_among_several_calls_of_a_turn_revises_the_plan_once():
    told, world = run(FIRST, calls("broken", "a"), AGAIN, says("8"))

    assert loop.run(told).answer == "8"
    assert asked(world).count(REVISE) == 1


def test_a_plan_that_brings_its_first_calls_along_is_carried_on_with_them():
    both = Reply("1. Use a.", calls("a").tool_requests, "tool_calls")
    told, world = run(both, says("8"))

    assert loop.run(told).answer == "8"
    assert world.used == ["a"]


def test_calls_in_place_of_the_first_plan_are_not_carried_out_and_not_sent_back():
    told, world = run(calls("a"), FIRST, says("8"))

    assert loop.run(told).answer == "8"
    assert world.used == []
    assert asked(world) == [PLAN, PLAN_AGAIN, GO]
    assert not any(message.tool_requests for message in world.turns[1].messages)


def test_calls_in_place_of_a_revised_plan_go_on_with_the_old_one():
    told, world = run(FIRST, calls("broken"), calls("a"), says("8"))

    assert loop.run(told).answer == "8"
    assert world.used == ["broken", "a"]


@pytest.mark.parametrize("second", ["still none", "", "The answer is 8."])
def test_no_plan_after_a_repair_turn_is_a_planner_error(second):
    told, world = run(says("no plan"), says(second), says("8"))

    outcome = loop.run(told)

    assert (outcome.error_code, len(world.turns)) == ("planner_error", 2)
    assert "numbered list" in outcome.detail


def test_words_that_are_twice_no_revised_plan_are_the_answer_as_the_model_was_told():
    told, world = run(FIRST, calls("broken"), says("I try another."), says("It cannot be done."))

    assert loop.run(told) == Outcome("completed", "It cannot be done.")
    assert asked(world)[-1] == REVISE_AGAIN


def test_a_numbered_list_after_the_plan_is_the_answer():
    assert loop.run(run(FIRST, says("1. Apples\n2. Pears"))[0]).answer == "1. Apples\n2. Pears"


def test_a_tool_that_does_not_exist_is_told_without_another_plan_and_twice_is_a_planner_error():
    told, world = run(FIRST, calls("nowhere"), calls("nowhere"), says("8"))

    assert loop.run(told).error_code == "planner_error"
    assert REVISE not in asked(world)


def test_an_empty_reply_after_the_plan_has_its_repair_turn():
    assert loop.run(run(FIRST, says(""), says("8"))[0]).answer == "8"


def test_an_answer_that_does_not_fit_the_schema_is_repaired_without_another_plan():
    told, world = run(FIRST, says("no"), says("{}"), output_schema={"type": "object"})

    assert loop.run(told).answer == {}
    assert len(world.turns) == 3


def test_a_second_run_of_the_same_replies_asks_the_same():
    replies = (says("no"), FIRST, calls("broken"), says("no"), AGAIN, calls("a"), says("8"))
    first, second = run(*replies), run(*replies)

    assert loop.run(first[0]) == loop.run(second[0])
    assert first[1].turns == second[1].turns
    assert len(first[1].turns) == 7


def test_an_opening_with_pictures_is_planned_as_any_other():
    opening = (Message("user", [{"type": "text", "text": "What is this?"}, {"type": "image_url"}]),)
    plans = planner("plan_execute", TOOLS)

    assert plans.decide(opening, None) == AskModel(PLAN, words_only=True)
    assert plans.decide((*opening, PLAN, FIRST.message()), FIRST) == AskModel(GO)
    assert plans.remember((*opening, PLAN), FIRST) == FIRST.message()


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("1. a", True), ("1) a\n2) b", True), ("Step 1: a", True), ("**1.** a", True), ("**Step 1:** a", True),
        ("  (1) a", True), ("Plan\n\n 1. **Add** the numbers", True), ("- 1. a", True),
        ("", False), ("a", False), ("8.5 apples", False), ("12:30 is late", False), ("1.", False), ("- a\n- b", False),
        ("I have 3. You?", False),
    ],
)  # fmt: skip
def test_a_plan_is_a_numbered_list(text, plan):
    assert is_plan(text) == plan
