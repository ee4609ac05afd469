"""An agent put together from its version, the task's overrides, both limits and the input."""
from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from agents.assembly import assemble
from agents.contract import AgentInvalid, Limits
from agents.overrides import merge, tightest
from agents.planners.native import NativePlanner
from agents.planners.placeholder import PlaceholderPlanner
from llm.messages import Message, ModelSettings

PARTS = [{"type": "text", "text": "b"}]


def assembled(config=None, overrides=None, limits=None, input_data=None):
    return assemble("helper", config or {}, overrides or {}, limits or {}, input_data or {"prompt": "hello"})


def test_an_empty_configuration_is_the_default_model_without_tools(settings):
    settings.LLM_DEFAULT_MODEL = "scripted/echo"

    agent = assembled()

    assert isinstance(agent.planner, NativePlanner)
    assert agent.opening == (Message("user", "hello"),)
    assert (agent.settings.model, agent.settings.temperature, agent.settings.stop) == ("scripted/echo", None, ())
    assert (agent.tools, agent.limits) == ((), Limits())


def test_a_configuration_arrives_whole():
    options = {"script": [{"text": "hi"}]}
    config = {
        "model": "openai/gpt-4o-mini", "temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 7, "max_output_tokens": 9,
        "stop": ["a", "b"], "call_timeout_seconds": 3, "api_base": "http://h/v1", "provider_options": options,
        "credential": "team-b",
        "tools": ["*_numbers", "calculator"],
    }  # fmt: skip

    agent = assembled(config)

    for key in ("model", "temperature", "top_p", "top_k", "seed", "max_output_tokens", "api_base", "credential",
                "provider_options"):  # fmt: skip
        assert getattr(agent.settings, key) == config[key]
    assert (agent.settings.stop, agent.settings.call_timeout_seconds) == (("a", "b"), 3)
    assert [tool.name for tool in agent.tools] == ["add_numbers", "subtract_numbers", "calculator"]


def test_one_stop_text_is_a_list_of_one():
    assert assembled({"model": "scripted/echo", "stop": "END"}).settings.stop == ("END",)


@pytest.mark.parametrize(
    ("input_data", "opening"),
    [
        ({"prompt": "hello"}, [("user", "hello")]),
        ({"goal": "hello", "more": 1}, [("user", "hello")]),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": PARTS}]},
         [("assistant", "a"), ("user", PARTS)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("instructions", "first"), [("Be brief.", [("system", "Be brief.")]), ("", []), (" ", [])])
def test_a_run_opens_with_the_instructions_and_then_the_input(input_data, opening, instructions, first):
    agent = assembled({"model": "scripted/echo", "instructions": instructions}, input_data=input_data)

    assert [(message.role, message.content) for message in agent.opening] == first + opening


def test_overrides_win_over_the_configuration():
    config = {"model": "openai/gpt-4o", "temperature": 1, "max_output_tokens": 100, "tools": ["calculator"]}
    overrides = {"llm_model": "scripted/echo", "temperature": 0, "max_output_tokens": 5, "planner": "placeholder"}

    agent = assembled(config, overrides)

    assert agent.settings == ModelSettings("scripted/echo", temperature=0, max_output_tokens=5)
    assert isinstance(agent.planner, PlaceholderPlanner)
    assert agent.tools == ()


@pytest.mark.parametrize(
    ("config", "overrides", "told"),
    [
        ({"model": "non_existent_provider/x"}, {}, "non_existent_provider"),
        ({"model": "scripted/echo"}, {"llm_provider": "non_existent_provider"}, "non_existent_provider"),
        ({"model": "scripted/echo", "planner": "placeholder"}, {"llm_provider": "no_such"}, "no_such"),
        ({"model": "scripted/echo", "planner": "reactor"}, {}, "'reactor'; there are native, react, plan_execute"),
        ({"model": "scripted/echo", "tools": ["calculator", "sun_dial", "moon_*"]}, {}, "'sun_dial', 'moon_*'"),
    ],
)
def test_what_is_no_longer_there_is_named(config, overrides, told):
    with pytest.raises(AgentInvalid) as caught:
        assembled(config, overrides)

    assert told in str(caught.value)
    assert "helper" in str(caught.value)


def test_of_several_budgets_the_smallest_holds_as_a_decimal():
    own = {"limits": {"max_cost_usd": "10", "on_budget": "wait"}}
    agent = assembled(own, {"limits": {"max_cost_usd": 9.5}}, {"max_cost_usd": "9.50", "on_budget": "fail"})
    assert agent.limits == Limits(max_cost_usd=Decimal("9.5"), on_budget="fail")


def test_of_several_limits_the_tightest_holds():
    agent = assembled(
        {"model": "scripted/echo", "limits": {"max_steps": 9, "timeout_seconds": 60}},
        {"limits": {"max_steps": 7, "max_tokens": 100}},
        {"max_steps": 8, "timeout_seconds": 30.5, "max_tool_calls": 0},
    )

    assert agent.limits == Limits(max_steps=7, timeout_seconds=30.5, max_tool_calls=0, max_tokens=100)


def test_a_limit_that_only_the_task_gives_holds_also_above_the_default():
    assert tightest({}, {"max_steps": 200}) == Limits(max_steps=200)


@pytest.mark.parametrize(
    ("inner", "outer", "merged"),
    [
        (None, {"temperature": 1}, {"temperature": 1}),
        ({"temperature": 0, "planner": "native"}, {"temperature": 1}, {"temperature": 1, "planner": "native"}),
        ({"limits": {"max_steps": 1, "max_tokens": 5}}, {"limits": {"max_steps": 2}},
         {"limits": {"max_steps": 2, "max_tokens": 5}}),
        ({"limits": {"max_steps": 1}}, {}, {"limits": {"max_steps": 1}}),
    ],
)  # fmt: skip
def test_the_top_level_agent_config_wins_key_by_key(inner, outer, merged):
    input_data = {"prompt": "x"} if inner is None else {"prompt": "x", "agent_config": inner}

    assert merge(input_data, outer) == merged


def test_the_agents_address_key_and_options_stay_with_its_provider() -> None:
    config = {"model": "openai/gpt-4o-mini", "api_base": "http://localhost:1/v1", "provider_options": {"user": "x"},
              "credential": "team-b"}  # fmt: skip
    same = assemble("a", config, {"llm_model": "gpt-4o"}, {}, {"prompt": "hi"}).settings
    other = assemble("a", config, {"llm_provider": "anthropic"}, {}, {"prompt": "hi"}).settings
    assert (same.model, same.api_base, same.provider_options, same.credential) == (
        "openai/gpt-4o", "http://localhost:1/v1", {"user": "x"}, "team-b",
    )  # fmt: skip
    assert (other.api_base, dict(other.provider_options), other.credential) == ("", {}, "")


def test_fallbacks_are_called_like_the_model_but_for_what_belongs_to_its_provider():
    config = {
        "model": "openai/a", "fallback_models": ["openai/b", "google/c", "openai/a", "openai/b"], "temperature": 0.5,
        "api_base": "http://h/v1", "provider_options": {"x": 1}, "credential": "team-b",
    }  # fmt: skip

    same, other = assembled(config).fallbacks

    assert same == replace(assembled(config).settings, model="openai/b")
    assert (other.model, other.temperature, other.api_base, other.provider_options) == ("gemini/c", 0.5, "", {})
    assert (same.credential, other.credential) == ("team-b", "")


@pytest.mark.parametrize("overrides", [{"llm_model": "openai/a"}, {"llm_provider": "openai"}])
def test_a_task_that_names_its_own_model_has_no_fallbacks(overrides):
    assert assembled({"model": "openai/a", "fallback_models": ["openai/b"]}, overrides).fallbacks == ()


def test_the_task_s_schema_wins_over_the_agent_s_and_the_placeholder_has_none():
    config, own = {"model": "scripted/echo", "output_schema": {"type": "object"}}, {"output_schema": {"type": "array"}}

    assert assembled(config).output_schema == {"type": "object"}
    assert assembled(config, own).output_schema == {"type": "array"}
    assert assembled({**config, "planner": "placeholder"}).output_schema is None
