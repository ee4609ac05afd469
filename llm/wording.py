"""A call in the words that LiteLLM's transformations take: OpenAI's, as its chat API has them."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm import abilities, caching
from llm.messages import Message, ModelCall, ModelSettings, ToolRequest, ToolSpec

MOST_STOPS = 4  # of OpenAI: https://platform.openai.com/docs/api-reference/chat/create


def of(call: ModelCall) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages, and everything else that is sent: what the agent leaves to the provider is not in it.

    New objects at each call, since LiteLLM changes what it is given.
    """
    messages, tools = [_message(message) for message in call.messages], [_tool(tool) for tool in call.tools]
    if abilities.caches_by_marks(call.settings.model):
        caching.mark(messages, tools)
    return messages, _parameters(call, tools)


def _parameters(call: ModelCall, tools: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = call.settings
    words = {
        "tools": tools or None,
        "tool_choice": "none" if tools and call.words_only and abilities.takes("tool_choice", chosen.model) else None,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "top_k": chosen.top_k,
        "seed": chosen.seed,
        "max_tokens": chosen.max_output_tokens,
        "stop": _stop(chosen) or None,
        "response_format": _response_format(call),
    }
    return {**_options(chosen), **{name: value for name, value in words.items() if value is not None}}


def _stop(chosen: ModelSettings) -> list[str]:
    known = chosen.stop_if_known and abilities.takes("stop", chosen.model)
    return [*chosen.stop, *chosen.stop_if_known][:MOST_STOPS] if known else list(chosen.stop)


def _response_format(call: ModelCall) -> Mapping[str, Any] | None:
    """The schema where the provider itself holds the answer to it; else what the agent says."""
    if call.output_schema is not None and abilities.answers_by_schema(call):
        return _schema(call.output_schema)
    return dict(call.settings.response_format) if call.settings.response_format else None


def _options(chosen: ModelSettings) -> Mapping[str, Any]:
    return {name: value for name, value in chosen.provider_options.items() if value is not None}


def _message(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else [dict(part) for part in message.content]
    told: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_requests:
        told["content"] = content or None
        told["tool_calls"] = [_tool_call(request) for request in message.tool_requests]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def _tool_call(request: ToolRequest) -> dict[str, Any]:
    """A call that could not be read goes back without arguments: providers refuse what is not JSON here too."""
    function = {"name": request.name, "arguments": json.dumps(request.arguments or {}, ensure_ascii=False)}
    return {"id": request.id, "type": "function", "function": function}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """https://platform.openai.com/docs/guides/structured-outputs; `strict` takes only schemas that are closed."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": dict(schema), "strict": _is_closed(schema)},
    }


def _is_closed(schema: Any) -> bool:
    """Whether every object in it allows nothing more than it names, and requires all of that."""
    if isinstance(schema, list | tuple):
        return all(_is_closed(part) for part in schema)
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        named = set(properties or ())
        if schema.get("additionalProperties") is not False or named != set(schema.get("required", ())):
            return False
    return all(_is_closed(part) for part in schema.values())
