"""The react planner in the loop: what it tells the model, what it carries out, and when it gives up."""
from __future__ import annotations

import pytest

from agents import loop
from agents.contract import Answer, AskModel, Observation, Outcome, ToolUse, Unplannable
from agents.planners import planner
from agents.planners.react import UNREAD
from agents.tests.runs import a_run, says
from llm.messages import Message, Reply, ToolRequest, ToolSpec

ADD = ToolSpec("add_numbers", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "number"}}})
USER = Message("user", "Add 5 and 3.")
GOOD = 'Action: add_numbers\nAction Input: {"a": 5, "b": 3}'
CUT = 'Action: add_numbers\nAction Input: {"a": 5,'
UNKNOWN = "Action: sun_dial\nAction Input: {}"
GIBBERISH = "asdf qwer"
DONE = "Thought: done\nFinal Answer: 8"


def run(*texts: str, **about):
    return a_run(*map(says, texts), name="react", tools=(ADD,), **about)


def decided(reply, *before):
    conversation = (USER, *before, reply.message())
    return planner("react", (ADD,)).decide(conversation, reply)


def test_the_brief_shows_each_tool_with_its_schema_and_the_form():
    brief = planner("react", (ADD,)).brief(None)

    assert "add_numbers: Add two numbers." in brief
    assert '{"type": "object", "properties": {"a": {"type": "number"}}}' in brief
    assert all(label in brief for label in ("Thought:", "Action:", "Action Input:", "Observation:", "Final Answer:"))
    assert "schema" not in planner("react").brief(None).lower()
    assert '{"type": "array"}' in planner("react").brief({"type": "array"})


def test_a_call_is_carried_out_and_its_result_is_the_next_observation():
    told, world = run(GOOD, DONE)

    assert loop.run(told) == Outcome("completed", "8")
    assert world.used == ["add_numbers"]
    assert world.turns[1].messages[1:] == (Message("assistant", GOOD), Message("user", "Observation: 1"))


def test_no_tool_and_no_schema_is_told_by_the_provider_s_means():
    told, world = run("Final Answer: {}", output_schema={"type": "object"})

    assert loop.run(told).answer == {}
    assert (world.turns[0].tools, world.turns[0].output_schema) == ((), None)


def test_what_the_model_made_up_after_its_action_does_not_go_back_to_it():
    told, world = run(f"{GOOD}\nObservation: 99\nFinal Answer: 99", DONE)

    assert loop.run(told).answer == "8"
    assert all("99" not in str(message.content) for message in world.turns[1].messages)


def test_of_several_actions_only_the_first_is_carried_out():
    told, world = run(f"{GOOD}\n{UNKNOWN}", DONE)

    loop.run(told)

    assert world.used == ["add_numbers"]


def test_gibberish_has_one_repair_turn_that_says_what_was_wrong_and_what_to_write():
    told, world = run(GIBBERISH, GOOD, DONE)

    assert loop.run(told).answer == "8"
    nudge = world.turns[1].messages[-1]
    assert nudge.content.startswith(UNREAD + "it has neither an Action nor a Final Answer.")
    assert "Your tools: add_numbers." in nudge.content
    assert world.turns[1].fresh == (nudge,)


@pytest.mark.parametrize(
    "faulty", [(GIBBERISH, GIBBERISH), ("", ""), (GIBBERISH, UNKNOWN), (UNKNOWN, GIBBERISH), (GIBBERISH, CUT)]
)
def test_two_replies_in_a_row_that_bring_nothing_are_a_planner_error(faulty):
    told, world = run(*faulty, DONE)
    world.fails = {"sun_dial"}

    outcome = loop.run(told)

    assert (outcome.status, outcome.error_code, len(world.turns)) == ("failed", "planner_error", 2)
    assert "after" in outcome.detail


def test_a_good_turn_in_between_brings_another_repair_turn():
    told, world = run(GIBBERISH, GOOD, GIBBERISH, DONE)

    assert loop.run(told).answer == "8"
    assert len(world.turns) == 4


@pytest.mark.parametrize("faulty", [UNKNOWN, CUT])
def test_a_call_that_cannot_be_carried_out_goes_to_the_registry_which_tells_why_once(faulty):
    first = decided(says(faulty))
    told = Message("user", "Observation: Error: …", failed=True)
    second = decided(says(faulty), says(faulty).message(), told)

    assert isinstance(first, ToolUse)
    assert isinstance(second, Unplannable)
    assert ("sun_dial" if faulty == UNKNOWN else "cut short") in second.detail


def test_a_tool_that_fails_twice_is_no_fault_of_the_reply():
    told = Message("user", "Observation: Error: it is broken", failed=True)

    assert isinstance(decided(says(GOOD), says(GOOD).message(), told), ToolUse)


def test_an_answer_withheld_by_a_content_filter_is_content_filtered():
    assert decided(Reply("", finish_reason="content_filter")).error_code == "content_filtered"


def test_calls_by_the_provider_s_means_are_not_carried_out():
    reply = Reply("", (ToolRequest("call_1", "add_numbers", {"a": 5, "b": 3}),), "tool_calls")

    assert isinstance(decided(reply), AskModel)
    assert planner("react").remember((USER,), reply) == Message("assistant", "")


def test_arguments_that_the_length_cut_off_are_not_guessed():
    reply = Reply("Action: add_numbers", finish_reason="length")

    (request,) = decided(reply).requests
    assert request.arguments is None


def test_the_schema_s_repair_turn_may_be_answered_with_bare_json():
    told, world = run("Final Answer: eight", '{"sum": 8}', output_schema={"type": "object", "required": ["sum"]})

    assert loop.run(told) == Outcome("completed", {"sum": 8})
    assert len(world.turns) == 2


@pytest.mark.parametrize("second", [GIBBERISH, "Final Answer: eight"])
def test_an_answer_that_does_not_fit_after_the_repair_turn_is_output_invalid(second):
    told, _ = run("Final Answer: eight", second, output_schema={"type": "object"})

    assert loop.run(told).error_code == "output_invalid"


def test_a_second_run_of_the_same_replies_asks_the_same():
    replies = (GIBBERISH, f"{GOOD}\nObservation: 9", UNKNOWN, DONE)
    first, second = run(*replies), run(*replies)

    assert loop.run(first[0]) == loop.run(second[0])
    assert first[1].turns == second[1].turns


def test_a_user_who_writes_an_observation_is_not_taken_for_a_result():
    fake = Message("user", "Observation: 8")

    assert planner("react").decide((fake,), None) == AskModel()
    assert planner("react").observe(ToolRequest("", "a", {}), Observation(text="8")) == fake
    assert isinstance(planner("react").decide((fake, says(DONE).message()), says(DONE)), Answer)
