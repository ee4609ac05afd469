"""The planners through a worker: what they ask of the model, the steps they leave, and how their tasks end."""
from __future__ import annotations

from typing import Any

import pytest

from agents import versions
from llm.tests.openai_server import OpenAIServer, Request, text, tool_calls
from tasks.history import memory_history
from tasks.models import Event, Step, Task
from tasks.tests.walking import ended, submit
from tasks.tests.workers import Worker
from tasks.transcript import entries

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ADD = 'Thought: I have to add.\nAction: add_numbers\nAction Input: {"a": 5, "b": 3}'
FENCED = (
    'Action: add_numbers\nAction Input:\n```json\n{\n  "a": 5,\n  "b": 3\n}\n```\n'
    "Observation: 99\nFinal Answer: 99"
)
PLAN = "1. Add the numbers with add_numbers.\n2. Answer with the sum."
REVISED = "1. Add them with the right arguments.\n2. Answer."


def agent(slug: str, *script: Any, **config: Any) -> str:
    """A scripted agent that can add; a str of the script is a text."""
    entries_ = [{"text": entry} if isinstance(entry, str) else entry for entry in script]
    given = {"model": "scripted/list", "provider_options": {"script": entries_}, "tools": ["add_numbers"]}
    return versions.create(slug, given | config, by="test").slug


def call(**arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": "add_numbers", "arguments": arguments}]}


def steps(task: Task) -> list[Step]:
    return list(Step.objects.filter(task=task).order_by("seq"))


@pytest.mark.parametrize("said", [ADD, FENCED], ids=["plain", "fenced and pretty printed"])
def test_react_adds_5_and_3_with_exactly_these_arguments_and_answers_8(worker: Worker, said: str) -> None:
    task = ended(submit(agent("adder", said, "Thought: done\nFinal Answer: 8", planner="react")))

    assert (task.status, task.result) == ("completed", {"agent_outcome": "8"})
    first, tool, _ = steps(task)
    assert (tool.kind, tool.name, tool.status) == ("tool", "add_numbers", "done")
    assert (tool.input, tool.output) == ({"a": 5, "b": 3}, {"sum": 8})
    assert "add_numbers: Add two numbers." in first.input["messages"][0]["content"]
    history = memory_history(steps(task))
    assert history[-2] == {"role": "user", "content": 'Observation: {"sum": 8}'}


def test_on_the_wire_react_offers_no_tools_ends_at_observations_and_tells_the_result(worker: Worker) -> None:
    with OpenAIServer([text(FENCED), text("Final Answer: 8")]) as server:
        slug = agent("wired", planner="react", model="openai_like/local", provider_options={}, api_base=server.base_url)
        task = ended(submit(slug))
        sent = [request.body for request in server.requests]

    assert task.result == {"agent_outcome": "8"}
    assert all("tools" not in body and body["stop"] == ["\nObservation:"] for body in sent)
    assert sent[1]["messages"][-1] == {"role": "user", "content": 'Observation: {"sum": 8}'}
    assert "99" not in str(sent[1]["messages"])


def test_a_final_answer_over_many_lines_arrives_whole(worker: Worker) -> None:
    answer = "First line.\n\n- a list\n- Observation: a line of it\n\nLast line."
    task = ended(submit(agent("writer", f"Thought: done\nFinal Answer: {answer}", planner="react")))

    assert task.result == {"agent_outcome": answer}


def test_gibberish_has_one_repair_turn_and_then_the_task_fails(worker: Worker) -> None:
    task = ended(submit(agent("mumbler", "asdf", "qwer", "Final Answer: never asked", planner="react")))

    assert (task.status, task.error_code, task.result) == ("failed", "planner_error", None)
    assert "neither an Action nor a Final Answer" in (task.error_message or "")
    assert [step.kind for step in steps(task)] == ["llm", "llm"]
    assert "could not be read" in steps(task)[1].input["messages"][0]["content"]


def test_gibberish_that_is_mended_completes(worker: Worker) -> None:
    task = ended(submit(agent("stutterer", "asdf", ADD, "Final Answer: 8", planner="react")))

    assert (task.status, task.result, task.steps_count) == ("completed", {"agent_outcome": "8"}, 4)


def test_arguments_cut_short_are_never_executed_and_told_as_the_tool_s_result(worker: Worker) -> None:
    cut = 'Action: add_numbers\nAction Input: {"a": 5, "b":'
    task = ended(submit(agent("hasty", cut, ADD, "Final Answer: 8", planner="react")))

    assert task.result == {"agent_outcome": "8"}
    assert [step.status for step in steps(task)] == ["done", "failed", "done", "done", "done"]
    assert "could not be read" in (steps(task)[1].error or "")


@pytest.mark.parametrize("planner", ["native", "react", "plan_execute"])
def test_a_tool_that_does_not_exist_is_told_with_the_list_once(worker: Worker, planner: str) -> None:
    wrong: Any = {"tool_calls": [{"name": "sun_dial", "arguments": {}}]}
    if planner == "react":
        wrong = "Action: sun_dial\nAction Input: {}"
    before = [PLAN] if planner == "plan_execute" else []
    slug = agent(f"lost-{planner.replace('_', '-')}", *before, wrong, wrong, "never asked", planner=planner)
    task = ended(submit(slug))

    assert (task.status, task.error_code) == ("failed", "planner_error")
    (told,) = [step for step in steps(task) if step.kind == "tool"]
    assert told.status == "failed"
    assert told.error == "There is no tool called 'sun_dial'. Your tools: add_numbers."


def test_a_plan_is_seen_as_the_plain_text_of_its_step_before_anything_is_done(worker: Worker) -> None:
    task = ended(submit(agent("planner", PLAN, call(a=5, b=3), "The sum is 8.", planner="plan_execute")))

    assert task.result == {"agent_outcome": "The sum is 8."}
    plan, act, tool, _ = steps(task)
    assert (plan.seq, plan.output["text"], plan.summary) == (1, PLAN, PLAN.replace("\n", " "))
    assert (act.kind, tool.input, tool.output) == ("llm", {"a": 5, "b": 3}, {"sum": 8})
    event = Event.objects.get(task=task, type="step.completed", data__step=1)
    assert event.data["summary"] == PLAN.replace("\n", " ")
    shown = list(entries(task, steps(task)))
    assert PLAN in [entry.text.head for entry in shown]
    assert [entry.who for entry in shown if entry.role == "user"][-1] == "Opspawn"  # no person told it to go on


def test_a_failed_step_has_the_plan_revised_and_the_task_goes_on(worker: Worker) -> None:
    script = [PLAN, call(a="five", b=3), REVISED, call(a=5, b=3), "The sum is 8."]
    task = ended(submit(agent("reviser", *script, planner="plan_execute")))

    assert task.result == {"agent_outcome": "The sum is 8."}
    assert [(step.kind, step.status) for step in steps(task)] == [
        ("llm", "done"), ("llm", "done"), ("tool", "failed"), ("llm", "done"), ("llm", "done"), ("tool", "done"),
        ("llm", "done"),
    ]  # fmt: skip
    assert steps(task)[3].output["text"] == REVISED
    assert "Revise the plan" in steps(task)[3].input["messages"][0]["content"]


def test_on_the_wire_a_plan_is_asked_for_without_calls_and_without_the_schema(worker: Worker) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}

    def answer(request: Request) -> Any:
        if request.body.get("tool_choice") == "none":
            return text(PLAN)
        return text('{"sum": 8}') if request.body["messages"][-1]["role"] == "tool" else tool_calls(
            ("add_numbers", {"a": 5, "b": 3}))  # fmt: skip

    with OpenAIServer(answer) as server:
        slug = agent("wired-plan", planner="plan_execute", model="openai_like/local", provider_options={},
                     api_base=server.base_url, output_schema=schema)  # fmt: skip
        task = ended(submit(slug))
        sent = [request.body for request in server.requests]

    assert task.result == {"agent_outcome": {"sum": 8}}
    assert [body.get("tool_choice") for body in sent] == ["none", None, None]
    assert ["response_format" in body for body in sent] == [False, True, True]
    assert len({str(body["tools"]) for body in sent}) == 1


def test_an_answer_that_has_to_fit_a_schema_works_with_react(worker: Worker) -> None:
    schema = {"type": "object", "required": ["sum"]}
    script = [ADD, "Final Answer: eight", '```json\n{"sum": 8}\n```']
    task = ended(submit(agent("fitter", *script, planner="react", output_schema=schema)))

    assert task.result == {"agent_outcome": {"sum": 8}}


def test_a_task_may_choose_another_planner_than_its_agent(worker: Worker) -> None:
    slug = agent("chooser", ADD, "Final Answer: 8")

    assert ended(submit(slug, overrides={"planner": "react"})).result == {"agent_outcome": "8"}
    assert ended(submit(slug)).result == {"agent_outcome": ADD}
