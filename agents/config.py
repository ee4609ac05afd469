"""What an agent may be configured with, and what a task may change of it: one table, checked and shown."""
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from agents import opening, planners
from agents.errors import FieldProblem
from agents.overrides import measure
from agents.schemas import schema_rule
from agents.strict import (
    Problems,
    Rule,
    anything,
    at,
    choice,
    each,
    either,
    money,
    number,
    report,
    shown,
    storable,
    table,
    text,
    whole,
    wrong_type,
)
from agents.tools.registry import REGISTRY
from llm import providers

MAX_CONFIG_BYTES = 256 * 1024
MOST = 2**31 - 1
SEEDS = 2**63

# Words in a key of provider_options that say where a request goes or what it carries along.
ADDRESS = re.compile(r"base|url|uri$|uri_|host|endpoint|server|address|domain|header|proxy|proxies|socket")
ADMIN_KEYS = frozenset({"api_base"})


def _tool_name() -> Rule:
    """A tool's name, or a pattern over the names."""
    words = text(1, 200, "name a tool")

    def check(value: Any, pointer: str) -> Problems:
        if problems := words.check(value, pointer):
            return problems
        if REGISTRY.matching(value):
            return []
        known = ", ".join(listed.name for listed in REGISTRY.names())
        detail = f"{shown(value)} names no tool; there are {known}, and patterns over these."
        return [FieldProblem(pointer, "unknown_tool", detail)]

    return Rule(words.schema, check)


def _planner_name() -> Rule:
    """A planner of the house, or one that an installed package adds: that one is loaded to see whether it can be."""
    built_in = list(planners.BUILT_IN)

    def check(value: Any, pointer: str) -> Problems:
        try:
            planners.class_of(value if isinstance(value, str) else "")
        except planners.UnknownPlanner:
            detail = f"{shown(value)} is not known; use {' or '.join(planners.names())}."
            return [FieldProblem(pointer, "unknown_value", detail)]
        except planners.UnusablePlanner as error:
            return [FieldProblem(pointer, "unusable_planner", f"{error}.")]
        return []

    return Rule({"anyOf": [{"type": "string", "enum": built_in}, {"type": "string"}]}, check)


def web_address() -> Rule:
    words = text(1, 2000, "leave the key out for the provider's own address")

    def check(value: Any, pointer: str) -> Problems:
        return words.check(value, pointer) or _wrong_address(value, pointer)

    return Rule({**words.schema, "format": "uri"}, check)


def _wrong_address(value: str, pointer: str) -> Problems:
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or any(sign.isspace() for sign in value):
        return wrong_type(pointer, value, "an address such as https://models.example/v1")
    if "@" in parts.netloc:
        return [FieldProblem(pointer, "secret", "It holds a user or password; keep secrets out of addresses.")]
    return []


LIMITS = {
    "max_steps": whole(1, 1000),
    "timeout_seconds": number(0.1, 86400),
    "max_tool_calls": whole(0, 1000),
    "max_tokens": whole(1, 10**12),
    "max_cost_usd": money(),
    "on_budget": choice(("wait", "fail")),
}
_MODEL = text(1, 200, "name a model such as openai/gpt-4o-mini, or leave the key out")
_FORMAT = table({"type": choice(("text", "json_object", "json_schema")), "json_schema": anything()}, ("type",))
_SHARED = {
    "planner": _planner_name(),
    "temperature": number(0, 2),
    "max_output_tokens": whole(1, MOST),
    "limits": table(LIMITS),
    "output_schema": schema_rule(),
}
CONFIG = {
    "model": _MODEL,
    "fallback_models": each(_MODEL, 0, 5),
    "instructions": text(),
    **_SHARED,
    "top_p": number(0, 1),
    "top_k": whole(1, MOST),
    "seed": whole(-SEEDS, SEEDS - 1),
    "stop": either(text(1, 200), each(text(1, 200), 1, 4)),
    "response_format": _FORMAT,
    "call_timeout_seconds": number(0.1, 3600),
    "credential": text(1, 64, "name a provider row, or leave the key out for the key in the environment"),
    "api_base": web_address(),
    "provider_options": anything(),
    "tools": each(_tool_name(), 0, 100),
    "queue": choice(settings.WORKER_QUEUES),
    "max_concurrency": whole(1, 100_000),
    "retention_days": whole(1, 36_500),
}
OVERRIDES = {"llm_provider": text(1, 100, "name a provider such as openai"), "llm_model": _MODEL, **_SHARED}

_CONFIG, _LIMITS, _OVERRIDES = table(CONFIG), table(LIMITS), table(OVERRIDES)
CONFIG_SCHEMA, LIMITS_SCHEMA, OVERRIDES_SCHEMA = _CONFIG.schema, _LIMITS.schema, _OVERRIDES.schema
INPUT_SCHEMA = opening.schema(OVERRIDES_SCHEMA)


def check(config: Any, pointer: str = "/config") -> Problems:
    """Everything wrong with an agent's configuration; empty when it is valid. Queries nothing."""
    unfit = storable(config, pointer)
    return report([*unfit, *_CONFIG.check(config, pointer), *([] if unfit else _too_large(config, pointer))])


def check_overrides(
    overrides: Any, agent_config: Mapping[str, Any], pointer: str = "/agent_config"
) -> Problems:
    """Everything wrong with what a task changes of its agent's configuration."""
    problems = [*storable(overrides, pointer), *_OVERRIDES.check(overrides, pointer)]
    if isinstance(overrides, dict):
        problems += _looser(overrides.get("limits"), agent_config.get("limits", {}), at(pointer, "limits"))
    return report(problems)


def check_limits(limits: Any, agent_limits: Mapping[str, Any], pointer: str = "/limits") -> Problems:
    """Everything wrong with a task's limits: each may be tighter than the agent's own, not looser."""
    return report([*_LIMITS.check(limits, pointer), *_looser(limits, agent_limits, pointer)])


def check_input(
    input_data: Any, pointer: str = "/input_data", agent_config: Mapping[str, Any] | None = None
) -> Problems:
    """Everything wrong with a task's input, the `agent_config` inside it included."""
    problems = [*storable(input_data, pointer), *opening.check(input_data, pointer)]
    if isinstance(input_data, dict) and "agent_config" in input_data:
        problems += check_overrides(input_data["agent_config"], agent_config or {}, at(pointer, "agent_config"))
    return report(problems)


def needs_admin(
    config: Any, pointer: str = "/config", before: Mapping[str, Any] | None = None
) -> list[str]:
    """Pointers to what only an admin may set: addresses, to which a provider's key travels, and headers.

    Takes the configuration as it would be. An address that stands in `before` already needs no admin, but for
    another key that would travel there.
    """
    given, known = _addresses(config, pointer), _addresses(before or {}, pointer)
    new = [place for place, value in given.items() if value is not None and (place, value) not in known.items()]
    return new or (_other_keys(config, before or {}, pointer) if given else [])


def _other_keys(config: Mapping[str, Any], before: Mapping[str, Any], pointer: str) -> list[str]:
    """Pointers to what sends another provider's, or another row's, key than before."""
    found = [at(pointer, "credential")] if config.get("credential") != before.get("credential") else []
    return found + ([at(pointer, "model")] if provider_of(config) != provider_of(before) else [])


def model_of(config: Mapping[str, Any]) -> str:
    return str(config.get("model") or settings.LLM_DEFAULT_MODEL)


def provider_of(config: Mapping[str, Any]) -> str:
    return providers.split(model_of(config))[0]


def _addresses(config: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        return {}
    found = {at(pointer, key): config[key] for key in sorted(ADMIN_KEYS) if key in config}
    options = config.get("provider_options")
    if isinstance(options, dict):
        options = {key: value for key, value in options.items() if key != "script"}  # of a scripted model: words only
        found |= _addresses_in(options, at(pointer, "provider_options"))
    return found


def _addresses_in(options: Any, pointer: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    todo = [(options, pointer)]
    while todo:
        value, place = todo.pop()
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if ADDRESS.search(str(key).lower()) or (isinstance(inner, str) and "://" in inner):
                found[at(place, key)] = inner
            elif isinstance(inner, (dict, list)):
                todo.append((inner, at(place, key)))
    return found


def _looser(limits: Any, agent_limits: Mapping[str, Any], pointer: str) -> Problems:
    if not isinstance(limits, dict):
        return []
    return [
        FieldProblem(at(pointer, name), "looser_than_agent", f"{limits[name]} is looser than the agent's {own}; "
                     f"use at most {own}, or raise the agent's own limit.")
        for name, own in agent_limits.items()
        if name in limits and name in LIMITS and not LIMITS[name].check(limits[name], "")
        and measure(name, limits[name]) > measure(name, own)
    ]  # fmt: skip


def _too_large(config: Any, pointer: str) -> Problems:
    size = len(json.dumps(config, ensure_ascii=False).encode())
    if size <= MAX_CONFIG_BYTES:
        return []
    return [FieldProblem(pointer, "too_large", f"It has {size} bytes of JSON; use at most {MAX_CONFIG_BYTES}.")]
