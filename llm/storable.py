"""Makes what a model wrote storable: PostgreSQL refuses NUL in text and jsonb, UTF-8 refuses lone surrogates."""
from __future__ import annotations

import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with each NUL and each lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub("�", text)


def clean_json(value: Any) -> Any:
    """A JSON value with every string in it cleaned, keys too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): clean_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value
