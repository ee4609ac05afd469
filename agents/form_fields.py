"""Fields that the typed form of an agent is made of."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)


class LongText(forms.CharField):
    """Text as it was typed; a browser's CRLF is LF, so that saving without an edit changes nothing."""

    def __init__(self, rows: int, **options: Any) -> None:
        super().__init__(required=False, strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": rows}), **options)

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")


class Lines(LongText):
    """A list of strings, one a line, with `\\n` for a line break inside one; empty lines are left out."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return "\n".join(line.replace("\\", "\\\\").replace("\n", "\\n") for line in value)

    def clean(self, value: Any) -> list[str]:
        lines = (line for line in super().clean(value).split("\n") if line)
        return [line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\") for line in lines]


class JSONObject(forms.JSONField):
    """A JSON object, shown indented."""

    def prepare_value(self, value: Any) -> Any:
        shown = "" if value is None else super().prepare_value(value)
        if isinstance(value, Mapping):
            shown = json.dumps(value, ensure_ascii=False, indent=2) if value else ""
        return shown

    def clean(self, value: Any) -> dict[str, Any] | None:
        cleaned = super().clean(value)
        if cleaned is not None and not isinstance(cleaned, dict):
            raise forms.ValidationError('Use a JSON object, for example {"reasoning_effort": "low"}.')
        return cleaned


class ToolBoxes(UnfoldAdminCheckboxSelectMultipleWidget):
    option_template_name = "agents/tool_option.html"


def whole(help_text: str = "", label: str | None = None) -> forms.IntegerField:
    return forms.IntegerField(required=False, help_text=help_text, label=label, widget=UnfoldAdminIntegerFieldWidget)


def number(help_text: str = "", label: str | None = None) -> forms.FloatField:
    widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
    return forms.FloatField(required=False, help_text=help_text, label=label, widget=widget)
