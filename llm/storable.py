"""Makes what a model wrote storable: PostgreSQL refuses NUL in text and jsonb, UTF-8 refuses lone surrogates."""
from __future__ import annotations

import re
from typing import Any

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with each NUL and each lone surrogate replaced by U+FFFD; two that belong together are their character.

    JSON escapes an emoji as such a pair, and a stream may cut between the two.
    """
    return _UNSTORABLE.sub("�", _PAIR.sub(_joined, text)) if _UNSTORABLE.search(text) else text


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-be", "surrogatepass").decode("utf-16-be")


def begins_a_pair(text: str) -> bool:
    """Whether the last character is the first half of one."""
    return "\ud800" <= text[-1:] <= "\udbff"


def clean_json(value: Any) -> Any:
    """A JSON value with every string in it cleaned, keys too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): clean_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value
