"""An agent's configuration, a task's overrides, limits and input: what is valid, and where each problem is."""
from __future__ import annotations

import json

import jsonschema
import pytest

from agents import config

FULL = {
    "model": "openai/gpt-4o-mini", "instructions": "Be brief. 🐈", "planner": "native", "temperature": 0.5, "top_p": 1,
    "top_k": 40, "seed": -7, "max_output_tokens": 500, "stop": ["\n\n", "END"], "call_timeout_seconds": 30,
    "api_base": "http://127.0.0.1:8000/v1", "provider_options": {"script": [{"text": "hi"}], "n": [None, 1.5, True]},
    "tools": ["calculator", "*_numbers"], "queue": "default",
    "fallback_models": ["anthropic/claude-sonnet-4-6"], "response_format": {"type": "json_object"},
    "output_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "limits": {"max_steps": 5, "timeout_seconds": 60.5, "max_tool_calls": 0, "max_tokens": 1000},
}  # fmt: skip
HUGE = 10**400


def nested(levels: int) -> dict:
    """An object so many levels deep."""
    value: dict = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def found(problems) -> dict[str, str]:
    assert len({problem.pointer for problem in problems}) == len(problems)
    return {problem.pointer: problem.code for problem in problems}


@pytest.mark.parametrize("valid", [{}, FULL, *({key: value} for key, value in FULL.items()), {"stop": "END"}])
def test_a_valid_configuration_has_no_problems_and_fits_the_schema(valid):
    assert config.check(valid) == []
    jsonschema.validate(valid, config.CONFIG_SCHEMA)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("model", "", "blank"), ("model", "  ", "blank"), ("model", 5, "wrong_type"), ("model", None, "wrong_type"),
        ("model", "x" * 201, "too_long"), ("instructions", ["a"], "wrong_type"),
        ("planner", "reactor", "unknown_value"), ("planner", ["native"], "unknown_value"),
        ("temperature", -0.1, "out_of_range"), ("temperature", 2.1, "out_of_range"),
        ("temperature", True, "wrong_type"), ("temperature", "1", "wrong_type"), ("temperature", None, "wrong_type"),
        ("temperature", float("nan"), "not_storable"), ("temperature", float("inf"), "not_storable"),
        ("temperature", HUGE, "out_of_range"),
        ("top_p", 1.01, "out_of_range"), ("top_k", 0, "out_of_range"), ("top_k", 1.0, "wrong_type"),
        ("seed", 0.5, "wrong_type"), ("seed", False, "wrong_type"), ("seed", HUGE, "out_of_range"),
        ("max_output_tokens", 0, "out_of_range"), ("max_output_tokens", HUGE, "out_of_range"),
        ("stop", "", "blank"), ("stop", [], "wrong_length"), ("stop", list("abcde"), "wrong_length"),
        ("stop", {"a": 1}, "wrong_type"), ("call_timeout_seconds", 0, "out_of_range"),
        ("api_base", "models.example", "wrong_type"), ("api_base", "ftp://models.example", "wrong_type"),
        ("api_base", "http://", "wrong_type"), ("api_base", "http://[x", "wrong_type"),
        ("api_base", "http://h:99999", "wrong_type"), ("api_base", "http://a b/", "wrong_type"),
        ("api_base", "http://user:pass@h/", "secret"), ("provider_options", [], "wrong_type"),
        ("fallback_models", ["a"] * 6, "wrong_length"), ("fallback_models", "openai/a", "wrong_type"),
        ("output_schema", True, "wrong_type"), ("response_format", "json", "wrong_type"),
        ("tools", "calculator", "wrong_type"), ("queue", "gpu", "unknown_value"), ("limits", [], "wrong_type"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_found_at_its_key(key, value, code):
    assert found(config.check({key: value})) == {f"/config/{key}": code}


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_steps": 0}, "out_of_range"), ({"max_steps": 1001}, "out_of_range"), ({"max_steps": 5.0}, "wrong_type"),
        ({"max_steps": True}, "wrong_type"), ({"max_steps": None}, "wrong_type"), ({"max_steps": HUGE}, "out_of_range"),
        ({"timeout_seconds": 0.09}, "out_of_range"), ({"timeout_seconds": 86401}, "out_of_range"),
        ({"max_tool_calls": -1}, "out_of_range"), ({"max_tokens": 0}, "out_of_range"),
        ({"max_cost_usd": "0"}, "out_of_range"), ({"max_cost_usd": 0}, "out_of_range"),
        ({"max_cost_usd": -1}, "out_of_range"),
        ({"max_cost_usd": HUGE}, "out_of_range"), ({"max_cost_usd": 1e300}, "out_of_range"),
        ({"max_cost_usd": "1,5"}, "wrong_type"), ({"max_cost_usd": "1e3"}, "wrong_type"),
        ({"max_cost_usd": ""}, "wrong_type"),
        ({"max_cost_usd": "١"}, "wrong_type"), ({"max_cost_usd": "1\n"}, "wrong_type"),
        ({"max_cost_usd": True}, "wrong_type"),
        ({"max_cost_usd": 1e-11}, "wrong_type"), ({"max_cost_usd": [1]}, "wrong_type"),
        ({"on_budget": "Fail"}, "unknown_value"), ({"on_budget": None}, "unknown_value"),
        ({"max_cost": "1"}, "unknown_field"),
    ],
)  # fmt: skip
def test_a_wrong_limit_is_found_at_its_key(limits, code):
    (key,) = limits

    assert found(config.check({"limits": limits})) == {f"/config/limits/{key}": code}
    assert found(config.check_limits(limits, {})) == {f"/limits/{key}": code}
    assert found(config.check_overrides({"limits": limits}, {})) == {f"/agent_config/limits/{key}": code}


@pytest.mark.parametrize("amount", ["0.0000000001", "1.50", "1000000000", 1, 0.5, 1e-10, 1e9])
def test_dollars_are_a_decimal_string_or_a_number(amount):
    assert config.check({"limits": {"max_cost_usd": amount}}) == []


@pytest.mark.parametrize(
    ("limits", "own", "looser"),
    [
        ({"max_cost_usd": "0.50"}, {"max_cost_usd": 0.5}, False),
        ({"max_cost_usd": 0.6}, {"max_cost_usd": "0.5"}, True),
        ({"max_cost_usd": "9"}, {"max_cost_usd": "10"}, False), ({"max_cost_usd": "9"}, {}, False),
        ({"on_budget": "wait"}, {"on_budget": "fail"}, True), ({"on_budget": "fail"}, {"on_budget": "wait"}, False),
    ],
)  # fmt: skip
def test_a_task_may_have_less_money_than_its_agent_not_more(limits, own, looser):
    (key,) = limits
    assert found(config.check_limits(limits, own)) == ({f"/limits/{key}": "looser_than_agent"} if looser else {})


@pytest.mark.parametrize("key", ["memory", "tool_policy", "max_depth", "history", "approval", "Model", "modell", "",
                                 "é"])  # fmt: skip
def test_an_unknown_key_is_named(key):
    (problem,) = config.check({key: None})

    assert (problem.pointer, problem.code) == (f"/config/{key}", "unknown_field")
    assert json.dumps(key) in problem.detail
    assert "known are model, fallback_models, instructions" in problem.detail


@pytest.mark.parametrize(
    ("key", "pointer"), [("a/b", "/config/a~1b"), ("a~b", "/config/a~0b"), ("~1", "/config/~01"), ("\0", "/config/�")]
)
def test_pointers_are_escaped_as_rfc_6901_has_it(key, pointer):
    assert list(found(config.check({key: 1}))) == [pointer]


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udc00x"])
@pytest.mark.parametrize(
    ("place", "pointer"),
    [
        (lambda text: {"instructions": text}, "/config/instructions"),
        (lambda text: {"provider_options": {"a": [{"b": text}]}}, "/config/provider_options/a/0/b"),
        (lambda text: {"tools": ["calculator", text]}, "/config/tools/1"),
    ],
)
def test_text_that_cannot_be_stored_is_found_wherever_it_is(text, place, pointer):
    assert found(config.check(place(text))) == {pointer: "not_storable"}


def test_a_key_that_cannot_be_stored_is_told_in_text_that_can():
    problems = config.check({"provider_options": {"\ud800": 1}})

    assert found(problems) == {"/config/provider_options/?": "not_storable"}
    for problem in problems:
        problem.detail.encode()


def test_tools_that_do_not_exist_are_each_named_with_those_that_do():
    problems = config.check({"tools": ["calculator", "web_fetch", "no_*", 7]})

    assert found(problems) == {
        "/config/tools/1": "unknown_tool", "/config/tools/2": "unknown_tool", "/config/tools/3": "wrong_type",
    }  # fmt: skip
    assert '"web_fetch"' in problems[0].detail
    assert "add_numbers, calculator, current_time, subtract_numbers" in problems[0].detail


def test_every_problem_is_reported_at_once():
    wrong = {"model": 1, "temperature": 9, "limits": {"max_steps": 0, "nope": 1}, "x": {}, "tools": ["a", "b"]}

    assert sorted(found(config.check(wrong))) == [
        "/config/limits/max_steps", "/config/limits/nope", "/config/model", "/config/temperature", "/config/tools/0",
        "/config/tools/1", "/config/x",
    ]  # fmt: skip


@pytest.mark.parametrize("config_", [None, [], "x", 5, True, float("nan"), {1, 2}])
def test_what_is_no_object_is_no_configuration(config_):
    assert list(found(config.check(config_))) == ["/config"]


@pytest.mark.parametrize(("levels", "problems"), [(99, 0), (100, 1), (100_000, 1)])
def test_a_configuration_nests_to_100_levels(levels, problems):
    assert len(config.check({"provider_options": nested(levels)})) == problems


@pytest.mark.parametrize(("extra", "code"), [(-1, None), (0, None), (1, "too_large")])
def test_a_configuration_is_256_kib_at_most(extra, code):
    bare = len(json.dumps({"instructions": ""}))

    problems = config.check({"instructions": "x" * (256 * 1024 - bare + extra)})

    assert [problem.code for problem in problems] == ([code] if code else [])


def test_a_number_too_long_to_be_written_is_refused():
    assert found(config.check({"temperature": 10**5000})) == {"/config/temperature": "not_storable"}


def test_a_thousand_problems_are_cut_to_a_hundred():
    assert len(config.check({str(n): 1 for n in range(1000)})) == 100


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"llm_provider": "non_existent_provider"},
        {"llm_provider": "google", "llm_model": "gemini-x", "planner": "placeholder", "temperature": 0,
         "max_output_tokens": 1, "limits": {"max_steps": 3}},
    ],
)  # fmt: skip
def test_overrides_take_these_keys(overrides):
    assert config.check_overrides(overrides, {"limits": {"max_steps": 3}}) == []
    jsonschema.validate(overrides, config.OVERRIDES_SCHEMA)


@pytest.mark.parametrize("key", ["model", "tools", "api_base", "instructions", "provider_options", "fallback_models"])
def test_overrides_take_no_other_keys(key):
    assert found(config.check_overrides({key: "x"}, {})) == {f"/agent_config/{key}": "unknown_field"}


@pytest.mark.parametrize("overrides", [None, [], "x", {"llm_model": ""}, {"llm_provider": 5}, {"limits": None}])
def test_overrides_are_strict(overrides):
    assert len(config.check_overrides(overrides, {})) == 1


@pytest.mark.parametrize(("asked", "own", "fits"), [(2, 3, True), (3, 3, True), (4, 3, False), (1000, None, True)])
def test_a_limit_may_be_tighter_than_the_agents_and_not_looser(asked, own, fits):
    agent = {"limits": {} if own is None else {"max_steps": own}}

    for problems, pointer in (
        (config.check_limits({"max_steps": asked}, agent["limits"]), "/limits/max_steps"),
        (config.check_overrides({"limits": {"max_steps": asked}}, agent), "/agent_config/limits/max_steps"),
    ):
        assert found(problems) == ({} if fits else {pointer: "looser_than_agent"})


IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}}
TEXT = {"type": "text", "text": "What is this?"}


@pytest.mark.parametrize(
    "input_data",
    [
        {"prompt": "hello"},
        {"goal": "hello", "document": {"pages": [1, None]}},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": [TEXT, IMAGE]}]},
        {"prompt": "x", "agent_config": {"llm_provider": "scripted"}},
        {"prompt": "Ωμέγα 🐈 " * 1000},
    ],
)
def test_input_that_says_one_thing_is_valid_and_fits_the_schema(input_data):
    assert config.check_input(input_data) == []
    jsonschema.validate(input_data, config.INPUT_SCHEMA)


@pytest.mark.parametrize(
    ("input_data", "where"),
    [
        ({}, [""]),
        (None, [""]),
        ({"question": "x"}, [""]),
        ({"prompt": ""}, ["/prompt"]),
        ({"prompt": " \n"}, ["/prompt"]),
        ({"prompt": None}, ["/prompt"]),
        ({"goal": ["x"]}, ["/goal"]),
        ({"prompt": "x", "goal": "y"}, ["/goal"]),
        ({"prompt": "x", "goal": "y", "messages": []}, ["/goal", "/messages"]),
        ({"messages": []}, ["/messages"]),
        ({"messages": "x"}, ["/messages"]),
        ({"messages": ["x"]}, ["/messages/0"]),
        ({"messages": [{"role": "user"}]}, ["/messages/0/content"]),
        ({"messages": [{"content": "x"}]}, ["/messages/0/role"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["/messages/0/role"]),
        ({"messages": [{"role": ["user"], "content": "x"}]}, ["/messages/0/role"]),
        ({"messages": [{"role": "user", "content": ""}]}, ["/messages/0/content"]),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, ["/messages/0/name"]),
        ({"messages": [{"role": "user", "content": []}]}, ["/messages/0/content"]),
        ({"messages": [{"role": "user", "content": [TEXT, {"type": "audio"}, 5]}]},
         ["/messages/0/content/1/type", "/messages/0/content/2"]),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, ["/messages/0/content/0/text"]),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
         ["/messages/0/content/0/image_url/url"]),
        ({"prompt": "x", "more": [1, {"a": "\0"}]}, ["/more/1/a"]),
        ({"prompt": "\ud800"}, ["/prompt"]),
        ({"prompt": "x", "more": {"n": 10**5000}}, ["/more/n"]),
        ({"prompt": "x", "agent_config": {"nope": 1, "limits": {"max_steps": 9}}},
         ["/agent_config/limits/max_steps", "/agent_config/nope"]),
        ({"prompt": "x", "agent_config": []}, ["/agent_config"]),
    ],
)  # fmt: skip
def test_input_problems_are_found_where_they_are(input_data, where):
    problems = config.check_input(input_data, "/input_data", {"limits": {"max_steps": 3}})

    assert sorted(found(problems)) == [f"/input_data{place}" for place in where]


def test_deep_input_is_refused_without_recursion():
    problems = config.check_input({"prompt": "x", "more": nested(100_000)})

    assert [problem.code for problem in problems] == ["not_storable"]


@pytest.mark.parametrize(
    ("changed", "pointers"),
    [
        ({}, []),
        (FULL, ["/config/api_base"]),
        ({"api_base": "https://elsewhere.example"}, ["/config/api_base"]),
        ({"api_base": None}, []),
        ({"provider_options": {"script": [{"text": "see https://x.example"}]}}, []),
        ({"provider_options": {"reasoning_effort": "low", "safety_settings": [{"category": "a"}]}}, []),
        ({"provider_options": {"Extra-Headers": {"a": "b"}}}, ["/config/provider_options/Extra-Headers"]),
        ({"provider_options": {"base_url": "x"}}, ["/config/provider_options/base_url"]),
        ({"provider_options": {"azure_endpoint": "x"}}, ["/config/provider_options/azure_endpoint"]),
        ({"provider_options": {"fallbacks": [{"api_base": "x"}]}}, ["/config/provider_options/fallbacks/0/api_base"]),
        ({"provider_options": {"odd": ["https://x.example"]}}, ["/config/provider_options/odd/0"]),
        ({"provider_options": {"base_url": None}}, []),
        ({"provider_options": "x"}, []),
        ("x", []),
    ],
)
def test_addresses_and_headers_need_an_admin(changed, pointers):
    assert config.needs_admin(changed) == pointers


def test_an_address_that_stands_there_already_needs_no_admin():
    before = {"api_base": "https://a.example", "provider_options": {"host": "b"}}

    assert config.needs_admin({**before, "temperature": 1}, before=before) == []
    assert config.needs_admin({**before, "api_base": "https://c.example"}, before=before) == ["/config/api_base"]
