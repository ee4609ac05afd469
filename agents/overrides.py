"""What a task changes of its agent: where it says so, and which of several limits holds."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from agents.contract import Limits


def merge(input_data: Mapping[str, Any], agent_config: Mapping[str, Any]) -> dict[str, Any]:
    """The `agent_config` inside `input_data` under the top-level one, which wins key by key, in `limits` too."""
    inner = input_data.get("agent_config")
    if not isinstance(inner, dict):
        return dict(agent_config)
    merged = {**inner, **agent_config}
    both = [config.get("limits") for config in (inner, agent_config)]
    if all(isinstance(limits, dict) for limits in both):
        merged["limits"] = {**both[0], **both[1]}  # type: ignore[dict-item]
    return merged


def tightest(*several: Mapping[str, Any]) -> Limits:
    """The smallest value given for each limit; the default holds where none is given."""
    given = {
        name: [measure(name, limits[name]) for limits in several if name in limits]
        for name in (field.name for field in fields(Limits))
    }
    return Limits(**{name: min(values) for name, values in given.items() if values})


def measure(name: str, value: Any) -> Any:
    """A limit's value as it is compared: dollars as a decimal; of the words, "fail" is smaller than "wait"."""
    return Decimal(str(value)) if name == "max_cost_usd" else value
