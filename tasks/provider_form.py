"""The form of a provider row: its key goes in and is never shown again."""
from __future__ import annotations

from typing import Any

from django import forms
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from agents import provider_rows
from agents.strict import Problems
from llm.models import Provider
from llm.providers import KEY_VARIABLES, KNOWN, MODEL_CHARS

USUAL_FIRST = [*sorted(KEY_VARIABLES), *sorted(KNOWN - KEY_VARIABLES.keys())]
PROVIDERS = [("", "choose one"), *((name, name) for name in USUAL_FIRST)]


class KeyInput(UnfoldAdminPasswordWidget):
    """Never holds a value when it is shown, also after an error."""

    def __init__(self) -> None:
        super().__init__(attrs={"autocomplete": "new-password", "spellcheck": "false"}, render_value=False)


class ProviderForm(forms.ModelForm):
    """Made with label, provider, address and key; changed in address, key and whether it is enabled."""

    key = forms.CharField(required=False, widget=KeyInput, strip=True)

    class Meta:
        model = Provider
        fields = ("label", "provider", "base_url", "enabled")
        widgets = {
            "label": UnfoldAdminTextInputWidget,
            "provider": UnfoldAdminSelectWidget(choices=PROVIDERS),
            "base_url": UnfoldAdminTextInputWidget,
            "enabled": UnfoldBooleanSwitchWidget,
        }
        labels = {"base_url": "Base URL"}
        help_texts = {
            "label": "What agents choose it by, for example openai-team-b. It cannot be changed later.",
            "provider": "Whose key this is. It cannot be changed later.",
            "base_url": "Empty calls the provider's own address; the key travels to the one given here.",
            "enabled": "Calls with a disabled one fail by its name.",
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        shown = self.instance.shown_key
        words = f"Now {shown}. Empty keeps it; type another to replace it" if shown else "The key itself"
        self.fields["key"].help_text = (
            f"{words}, or env:NAME for a variable of the workers' environment. It is stored encrypted, and never shown "
            "again but for its last four characters."
        )

    def clean(self) -> dict[str, Any]:
        super().clean()
        given = self.cleaned_data
        provider = self.instance.provider or given.get("provider", "")
        problems: Problems = provider_rows.address_problems(given.get("base_url", ""))
        if self.instance.pk is None:
            problems += provider_rows.provider_problems(provider)
        if given.get("key") or not self.instance.has_key:
            problems += provider_rows.key_problems(given.get("key", ""), provider)
        for problem in problems:
            field = problem.pointer.strip("/")
            if field not in self.errors:
                self.add_error(field, problem.detail)
        return given

    def given(self) -> dict[str, Any]:
        """What was typed, as `agents.provider_rows` takes it: an empty key is none."""
        return {name: value for name, value in self.cleaned_data.items() if name != "key" or value}


class TrialForm(BaseDialogForm):
    model = forms.CharField(
        required=False, max_length=MODEL_CHARS, widget=UnfoldAdminTextInputWidget,
        help_text="Empty takes the provider's default model.",
    )  # fmt: skip
