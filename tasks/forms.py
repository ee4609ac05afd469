"""The form that issues an API key."""
from __future__ import annotations

import datetime

from django import forms
from django.utils import timezone
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from tasks.models import DEFAULT_SCOPES, SCOPES, ApiKey


class ApiKeyForm(forms.ModelForm):
    """Name, scopes with what each allows, and when the key ends."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {words}") for scope, words in SCOPES.items()],
        initial=list(DEFAULT_SCOPES),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="A key sees the tasks it submitted itself, unless it has tasks:read_all or admin.",
    )

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "expires_at")
        widgets = {"name": UnfoldAdminTextInputWidget}
        help_texts = {
            "name": "Who or what calls with this key; it is shown beside every change it makes.",
            "expires_at": "UTC; empty means never.",
        }

    def clean_expires_at(self) -> datetime.datetime | None:
        moment = self.cleaned_data["expires_at"]
        if moment and moment <= timezone.now():
            raise forms.ValidationError("That moment has passed; use a later one, or leave it empty.")
        return moment
