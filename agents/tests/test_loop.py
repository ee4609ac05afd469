"""The loop on doors handed in: what it asks, in which order, and how it ends at every limit."""
from __future__ import annotations

import pytest

from agents import loop
from agents.contract import Outcome
from agents.tests.runs import a_run, calls, says
from llm.errors import AuthRefused, RateLimited, ServerFailed
from llm.messages import Message, Reply, Usage


def test_an_answer_completes_the_run_after_one_model_call():
    run, world = a_run(says("Hello."))

    assert loop.run(run) == Outcome("completed", "Hello.")
    assert world.order == ["check", "ask", "check"]


def test_tools_run_in_the_order_asked_for_and_the_model_sees_each_result_under_its_call_id():
    run, world = a_run(calls("first", "second"), says("done"))

    assert loop.run(run).answer == "done"
    assert world.used == ["first", "second"]
    assert world.turns[1].messages[-2:] == (
        Message("tool", "1", tool_call_id="call_0"),
        Message("tool", "2", tool_call_id="call_1"),
    )


def test_every_call_is_made_right_after_a_check():
    run, world = a_run(calls("a", "b"), says("done"))

    loop.run(run)

    assert world.order == ["check", "ask", "check", "act", "check", "act", "check", "ask", "check"]


def test_what_check_raises_ends_the_run_before_the_next_call():
    class Cancelled(Exception):
        pass

    def check() -> None:
        if world.turns:
            raise Cancelled

    run, world = a_run(calls("a"), says("done"), check=check)

    with pytest.raises(Cancelled):
        loop.run(run)
    assert world.used == []


@pytest.mark.parametrize("text", ["error: failed", "Traceback", "FAILED", "I cannot do that", "null", "{}"])
def test_an_answer_is_never_searched_for_words(text):
    assert loop.run(a_run(says(text))[0]) == Outcome("completed", text)


def test_the_first_turn_brings_the_opening_and_a_later_one_only_what_no_step_holds():
    run, world = a_run(calls("a"), says(""), says("done"))

    loop.run(run)

    assert world.turns[0].fresh == run.opening
    assert world.turns[1].fresh == ()
    assert [message.role for message in world.turns[2].fresh] == ["user"]
    assert world.turns[2].messages[-1] == world.turns[2].fresh[0]


def test_an_empty_reply_is_not_sent_back_to_the_model():
    run, world = a_run(says(""), says("done"))

    loop.run(run)

    assert [message.role for message in world.turns[1].messages] == ["user", "user"]


def test_two_empty_replies_are_a_planner_error():
    run, world = a_run(says(""), says(" \n"))

    outcome = loop.run(run)

    assert (outcome.status, outcome.error_code) == ("failed", "planner_error")
    assert len(world.turns) == 2


def test_each_tool_turn_gets_a_repair_turn_of_its_own():
    run, world = a_run(says(""), calls("a"), says(""), says("done"))

    assert loop.run(run).answer == "done"
    assert len(world.turns) == 4


# calls("a") and an answer are three steps: model, tool, model.
@pytest.mark.parametrize(("most", "made"), [(1, ["ask"]), (2, ["ask", "act"])])
def test_the_step_over_max_steps_is_not_made(most, made):
    run, world = a_run(calls("a"), says("done"), limits={"max_steps": most})

    outcome = loop.run(run)

    assert outcome == Outcome.failed("max_steps", f"Stopped before step {most + 1}: limits.max_steps is {most}. "
                                     "Raise it, or ask for less.")  # fmt: skip
    assert [call for call in world.order if call != "check"] == made


@pytest.mark.parametrize("most", [3, 4])
def test_a_run_of_max_steps_steps_completes(most):
    assert loop.run(a_run(calls("a"), says("done"), limits={"max_steps": most})[0]).answer == "done"


@pytest.mark.parametrize("most", [0, 1])
def test_of_several_tool_calls_only_those_that_fit_max_tool_calls_are_made(most):
    run, world = a_run(calls("a", "b"), says("done"), limits={"max_tool_calls": most})

    outcome = loop.run(run)

    assert outcome.error_code == "max_steps"
    assert f"tool call {most + 1}: limits.max_tool_calls is {most}" in outcome.detail
    assert world.used == ["a", "b"][:most]


@pytest.mark.parametrize("most", [2, 3])
def test_as_many_tool_calls_as_max_tool_calls_are_made(most):
    assert loop.run(a_run(calls("a", "b"), says("done"), limits={"max_tool_calls": most})[0]).answer == "done"


@pytest.mark.parametrize(("most", "made"), [(9, 0), (10, 0), (11, 1)])
def test_no_call_follows_once_max_tokens_are_spent(most, made):
    run, world = a_run(calls("a", tokens=10), says("done", tokens=0), limits={"max_tokens": most})

    outcome = loop.run(run)

    assert len(world.used) == made
    assert outcome.status == ("completed" if made else "failed")
    if not made:
        assert outcome.error_code == "budget_exceeded"
        assert f"Used 10 tokens: limits.max_tokens is {most}." in outcome.detail


@pytest.mark.parametrize(("most", "status"), [(9, "failed"), (10, "completed"), (11, "completed")])
def test_an_answer_that_went_over_max_tokens_is_not_taken(most, status):
    assert loop.run(a_run(says("done", tokens=10), limits={"max_tokens": most})[0]).status == status


@pytest.mark.parametrize(
    ("own", "most", "clipped"),
    [
        (None, None, [None, None]),
        (50, None, [50, 50]),
        (None, 100, [100, 70]),
        (80, 100, [80, 70]),
        (60, 100, [60, 60]),
    ],
)
def test_the_output_of_the_next_call_is_clipped_to_what_is_left_of_max_tokens(own, most, clipped):
    spent = Reply("", calls("a").tool_requests, "tool_calls", Usage(20, 10))
    run, world = a_run(spent, says("done"), limits={"max_tokens": most}, max_output_tokens=own)

    loop.run(run)

    assert [turn.max_output_tokens for turn in world.turns] == clipped


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_without_time_left_no_call_is_made(left):
    run, world = a_run(says("done"), seconds_left=lambda: left, limits={"timeout_seconds": 2.5})

    outcome = loop.run(run)

    assert outcome.error_code == "timeout"
    assert "limits.timeout_seconds is 2.5" in outcome.detail
    assert world.turns == []


def test_a_run_that_is_over_its_time_when_the_answer_comes_is_a_timeout():
    run, world = a_run(says("done"))
    world.seconds = [0.001, 0.001, 0.0]

    assert loop.run(run).error_code == "timeout"
    assert len(world.turns) == 1


def test_each_call_is_told_the_seconds_left():
    run, world = a_run(says("done"))
    world.seconds = [0.5]

    loop.run(run)

    assert world.turns[0].seconds_left == 0.5


@pytest.mark.parametrize("error", [AuthRefused("no key"), RateLimited("slow down"), ServerFailed()])
def test_a_model_call_that_failed_for_good_fails_the_run_with_its_code_and_message(error):
    run, world = a_run(error)

    assert loop.run(run) == Outcome.failed(error.code, str(error))
    assert len(world.turns) == 1


def test_a_model_call_that_fails_as_the_time_runs_out_is_a_timeout_that_names_it():
    run, world = a_run(ServerFailed("502 from the provider"))
    world.seconds = [1.0, 1.0, 0.0]

    outcome = loop.run(run)

    assert outcome.error_code == "timeout"
    assert "502 from the provider" in outcome.detail


def test_a_second_run_of_the_same_answers_asks_the_same():
    answers = (calls("a"), says(""), says("done"))
    first, second = a_run(*answers), a_run(*answers)

    assert loop.run(first[0]) == loop.run(second[0])
    assert first[1].turns == second[1].turns


def test_the_placeholder_planner_completes_without_a_model_call():
    run, world = a_run(name="placeholder")

    outcome = loop.run(run)

    assert outcome.status == "completed"
    assert outcome.answer == "[placeholder answer, no model was called] Goal: hello"
    assert world.turns == []
