"""How a model is told the schema of its answer: by its provider's own mode where there is one, else in words."""
from __future__ import annotations

import json
from dataclasses import replace

from llm import abilities
from llm.messages import Message, ModelCall

TOLD = (
    "Your final answer must be one JSON value that is valid against the JSON Schema below, and nothing else: no words "
    "around it, no code fence.{tools}\n{schema}"
)
WITH_TOOLS = " Calling tools before that is fine."


def fitted(call: ModelCall) -> ModelCall:
    """The call with its schema where this model can be told it: kept for the provider's own mode, else in the words.

    The words follow the first system message, or are one of their own; they depend on nothing but the call, so that
    a call made again says the same.
    """
    if call.output_schema is None or abilities.answers_by_schema(call):
        return call
    schema = json.dumps(call.output_schema, ensure_ascii=False, separators=(",", ":"))
    words = TOLD.format(tools=WITH_TOOLS if call.tools else "", schema=schema)
    first, rest = call.messages[:1], call.messages[1:]
    if first and first[0].role == "system" and isinstance(first[0].content, str):
        said = replace(first[0], content=f"{first[0].content}\n\n{words}")
        return replace(call, messages=(said, *rest), output_schema=None)
    return replace(call, messages=(Message("system", words), *call.messages), output_schema=None)
