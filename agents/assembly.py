"""A version's configuration, a task's overrides and its input, put together into an agent ready to run."""
from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings

from agents import opening, planners
from agents import overrides as changes
from agents.contract import AgentInvalid, Assembled, Planner
from agents.tools.registry import REGISTRY
from llm import providers
from llm.errors import UnknownModel
from llm.messages import ModelSettings, ToolSpec

log = logging.getLogger(__name__)


def assemble(
    slug: str,
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    limits: Mapping[str, Any],
    input_data: Mapping[str, Any],
) -> Assembled:
    """The agent as this task runs it; of several limits the tightest. Queries nothing, calls nothing.

    All four were checked when they were accepted. Raises AgentInvalid for what is no longer there, naming it.
    """
    first = _settings(slug, config, overrides)
    kind = _planner(slug, overrides.get("planner") or config.get("planner") or planners.DEFAULT_PLANNER)
    tools = _tools(slug, config.get("tools", ())) if kind.asks_model else ()
    schema = {**config, **overrides}.get("output_schema") if kind.asks_model else None  # else nobody could be told it
    planner, told = _made(slug, kind, tools, schema)
    first = replace(first, stop_if_known=kind.stop)
    return Assembled(
        planner=planner,
        opening=opening.messages("\n\n".join(filter(str.strip, (config.get("instructions", ""), told))), input_data),
        settings=first,
        tools=tools,
        limits=changes.tightest(config.get("limits", {}), overrides.get("limits", {}), limits),
        fallbacks=_fallbacks(first, config, overrides),
        output_schema=schema,
    )


def _fallbacks(
    first: ModelSettings, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[ModelSettings, ...]:
    """The agent's other models, each once; none for a task that names a model of its own.

    Another provider's is called without the first one's address, credential and options: a key must not travel there.
    """
    if "llm_model" in overrides or "llm_provider" in overrides:
        return ()
    named = [providers.resolve(model) for model in config.get("fallback_models", ())]
    return tuple(_for(first, model) for model in dict.fromkeys(named) if model != first.model)


def _for(first: ModelSettings, model: str) -> ModelSettings:
    if providers.split(model)[0] == providers.split(first.model)[0]:
        return replace(first, model=model)
    return replace(first, model=model, api_base="", provider_options={}, credential="")


def _planner(slug: str, name: str) -> type[Planner]:
    try:
        return planners.class_of(name)
    except (planners.UnknownPlanner, planners.UnusablePlanner) as error:
        raise AgentInvalid(f"Agent {slug!r}: {error}.") from None


def _made(
    slug: str, kind: type[Planner], tools: tuple[ToolSpec, ...], schema: Mapping[str, Any] | None
) -> tuple[Planner, str]:
    """The planner, and what it tells the model first."""
    try:
        planner = kind(tools)
        return planner, planner.brief(schema)
    except Exception as error:  # of a package that adds a planner
        log.exception("planner %s cannot be made", kind.__name__)
        told = f"its planner {kind.__name__} cannot be made ({type(error).__name__}: {error})"
        raise AgentInvalid(f"Agent {slug!r}: {told}.") from None


def _tools(slug: str, wanted: Any) -> tuple[ToolSpec, ...]:
    gone = [name for name in wanted if not REGISTRY.matching(name)]
    if gone:
        names = ", ".join(map(repr, gone))
        raise AgentInvalid(f"Agent {slug!r}: {names} names no tool of this worker; take it out of the agent's tools.")
    return REGISTRY.specs(REGISTRY.resolve(wanted))


def _settings(slug: str, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> ModelSettings:
    stop = config.get("stop", ())
    model = _model(slug, config, overrides)
    kept = ["top_p", "top_k", "seed", "call_timeout_seconds", "response_format"]
    if providers.split(model)[0] == providers.split(config.get("model", settings.LLM_DEFAULT_MODEL))[0]:
        # Of the agent's provider: another one's key must not travel there.
        kept += ["api_base", "provider_options", "credential"]
    changed = ("temperature", "max_output_tokens")
    return ModelSettings(
        model=model,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        **{key: config[key] for key in kept if key in config},
        **{key: {**config, **overrides}[key] for key in changed if key in config or key in overrides},
    )


def _model(slug: str, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """The model to call. One that cannot exist is refused before any step, also when the planner calls none."""
    model = config.get("model", settings.LLM_DEFAULT_MODEL)
    resolved = providers.resolve(model, overrides.get("llm_provider", ""), overrides.get("llm_model", ""))
    try:
        providers.check(resolved)
    except UnknownModel as error:
        raise AgentInvalid(f"Agent {slug!r}: {error}") from None
    return resolved
