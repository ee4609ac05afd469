"""A call in the words that LiteLLM's transformations take: OpenAI's, as its chat API has them."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm.messages import Message, ModelCall, ModelSettings, ToolRequest, ToolSpec


def messages(call: ModelCall) -> list[dict[str, Any]]:
    """New objects at each call: LiteLLM changes what it is given."""
    return [_message(message) for message in call.messages]


def parameters(call: ModelCall) -> dict[str, Any]:
    """Everything else that is sent; what the agent leaves to the provider is not in it."""
    chosen = call.settings
    words = {
        "tools": [_tool(tool) for tool in call.tools] or None,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "top_k": chosen.top_k,
        "seed": chosen.seed,
        "max_tokens": chosen.max_output_tokens,
        "stop": list(chosen.stop) or None,
    }
    return {**_options(chosen), **{name: value for name, value in words.items() if value is not None}}


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
