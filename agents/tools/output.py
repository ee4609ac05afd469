"""What a tool returned, made storable and readable: JSON without NUL or lone surrogates, capped in size."""
from __future__ import annotations

import json
from typing import Any

from agents.contract import Observation
from llm.storable import clean, clean_json

MAX_OUTPUT_BYTES = 64 * 1024
MARKER = "\n[cut: these are the first {kept} of {size} bytes]"


def failure(text: str) -> Observation:
    """A failed call, told to the model in plain words."""
    said = _capped(clean(text))
    return Observation(error=said, text=text_of(None, said))


def success(value: Any) -> Observation:
    """The value as JSON, and as text for the model; over 64 KiB it is the beginning of its text, with a marker.

    Raises TypeError, ValueError or RecursionError for what is not JSON (NaN and Infinity are not).
    """
    output = clean_json(json.loads(json.dumps(value, allow_nan=False)))
    text = text_of(output, "")
    capped = _capped(text)
    return Observation(output=output if capped == text else capped, text=capped)


def text_of(output: Any, error: str | None) -> str:
    """What the model reads of a call that brought this output or this error; of a recorded one the same."""
    if error:
        return f"Error: {error}"
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return text or "(empty)"


def _capped(text: str) -> str:
    whole = text.encode()
    if len(whole) <= MAX_OUTPUT_BYTES:
        return text
    kept = whole[:MAX_OUTPUT_BYTES].decode(errors="ignore")
    return kept + MARKER.format(kept=len(kept.encode()), size=len(whole))
