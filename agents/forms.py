"""The typed form of an agent: one field per key of its configuration, each with its own problems beside it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.utils.html import format_html
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from agents import config as configuration
from agents import credentials, planners
from agents.form_fields import JSONObject, Lines, LongText, ToolBoxes, number, whole
from agents.models import Agent
from agents.planners import DEFAULT_PLANNER
from agents.tools.registry import REGISTRY
from llm.models import Provider

KEYS = (
    "model", "fallback_models", "instructions", "planner", "temperature", "top_p", "top_k", "seed",
    "max_output_tokens", "stop", "response_format", "call_timeout_seconds", "credential", "api_base",
    "provider_options", "tools", "output_schema", "queue", "max_concurrency", "retention_days",
)  # fmt: skip
LIMITS = ("max_steps", "timeout_seconds", "max_tool_calls", "max_tokens", "max_cost_usd", "on_budget")
INSIDE = ("tools", "fallback_models", "provider_options", "output_schema", "response_format")  # said where in it
ABSENT: tuple[Any, ...] = (None, "", [], {})
EFFECTS = {
    "none": "only reads or computes",
    "idempotent": "may be repeated",
    "keyed": "repeated with the same key",
    "once": "acts on the world once",
}


class AgentForm(forms.ModelForm):
    """`based_on` is the version that was read: a save on top of another one is refused."""

    based_on = forms.IntegerField(widget=forms.HiddenInput, required=False)
    note = forms.CharField(
        required=False, max_length=500, widget=UnfoldAdminTextInputWidget,
        help_text="What this version changes and why; it stands in the version list.",
    )  # fmt: skip
    model = forms.CharField(
        widget=UnfoldAdminTextInputWidget, required=False,
        help_text="Provider and model, for example openai/gpt-4o-mini or scripted/echo; "
        f"empty takes {settings.LLM_DEFAULT_MODEL}.",
    )  # fmt: skip
    fallback_models = Lines(2, label="Fallback models", help_text=(
        "Asked in this order when the model cannot answer, one a line, at most 5. A task that names a model of its own "
        "has none."
    ))  # fmt: skip
    instructions = LongText(10, help_text="The system prompt.")
    planner = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget,
        choices=lambda: [("", f"the default ({DEFAULT_PLANNER})"), *((name, name) for name in planners.names())],
    )  # fmt: skip
    temperature = number("0 to 2; empty leaves the provider's default.")
    top_p = number()
    top_k = whole()
    seed = whole()
    max_output_tokens = whole("Of one model call.")
    stop = Lines(3, help_text=r"Sequences that end an answer, one a line; \n is a line break.")
    response_format = JSONObject(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), label="Response format",
        help_text='As the provider has it, for example {"type": "json_object"}; not needed beside an output schema.',
    )  # fmt: skip
    call_timeout_seconds = number("Of one attempt of one model call.")
    credential = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget,
        help_text="Whose key the model is called with, of the model's provider.",
    )  # fmt: skip
    api_base = forms.CharField(
        required=False, widget=UnfoldAdminTextInputWidget, label="API base",
        help_text="Only for superusers: the provider's key travels to this address.",
    )  # fmt: skip
    provider_options = JSONObject(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 5}),
        help_text="Passed on to the provider; for scripted/list it holds the script.",
    )  # fmt: skip
    tools = forms.MultipleChoiceField(
        required=False, widget=ToolBoxes, help_text="What is not ticked is neither offered nor run."
    )  # fmt: skip
    output_schema = JSONObject(
        required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 10}), label="Output schema",
        help_text="JSON Schema, draft 2020-12, that the final answer has to fit; empty is any text.",
    )  # fmt: skip
    limits_max_steps = whole("Model and tool calls together; empty is 50.", "Max steps")
    limits_timeout_seconds = number("Running time; empty is 600.", "Timeout seconds")
    limits_max_tool_calls = whole("Empty is no bound of its own.", "Max tool calls")
    limits_max_tokens = whole("Of all model calls, in and out; empty is no bound.", "Max tokens")
    limits_max_cost_usd = forms.CharField(
        required=False, widget=UnfoldAdminTextInputWidget, label="Max cost (USD)",
        help_text="Of all model calls of a task and its children, such as 0.50; empty is no bound of its own.",
    )  # fmt: skip
    limits_on_budget = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget, label="When a budget is spent",
        choices=[("", "the default (wait)"), ("wait", "wait until it is raised"), ("fail", "fail at once")],
    )  # fmt: skip
    queue = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    max_concurrency = whole("Its tasks that run at once; empty is no bound.", "Max concurrency")
    retention_days = whole("Its tasks are removed so many days after their end; empty keeps them.", "Retention days")
    description = LongText(2, max_length=4000)

    class Meta:
        model = Agent
        fields = ("slug", "description", "archived")
        widgets = {"slug": UnfoldAdminTextInputWidget, "archived": UnfoldBooleanSwitchWidget}

    superuser = False  # set per request

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.before = self._published()
        tools: Any = self.fields["tools"]
        tools.choices = tool_choices(self.before.get("tools") or [])
        queue: Any = self.fields["queue"]
        queue.choices = [("", "the default"), *((name, name) for name in settings.WORKER_QUEUES)]
        credential: Any = self.fields["credential"]
        credential.choices = credential_choices(self.before.get("credential", ""))
        model: Any = self.fields["model"]
        model.help_text = with_advice(model.help_text, self.before) if self.before else model.help_text
        self.fields["api_base"].disabled = not self.superuser
        self.initial.update({"based_on": self.instance.version, **initial_of(self.before)})

    def _published(self) -> dict[str, Any]:
        if self.instance.pk is None:
            return {}
        version = self.instance.versions.filter(version=self.instance.version).first()
        return version.config if version else {}

    def config(self) -> dict[str, Any]:
        """The configuration that the form holds; keys that it does not show are kept."""
        given = self.cleaned_data
        shown = {key: _kept(self.before, key, given.get(key)) for key in KEYS}
        shown["tools"] = _in_order(self.before.get("tools"), shown["tools"])
        if shown["stop"] == [self.before.get("stop")]:
            shown["stop"] = self.before["stop"]  # one sequence may be written without a list
        limits = self.before.get("limits") or {}
        asked = {key: _kept(limits, key, given.get(f"limits_{key}")) for key in LIMITS}
        if str(limits.get("max_cost_usd")) == asked["max_cost_usd"]:
            asked["max_cost_usd"] = limits["max_cost_usd"]  # it may be a number, and stays one
        shown["limits"] = _kept(self.before, "limits", _present({**limits, **asked}, limits))
        return _present({**self.before, **shown}, self.before)

    def patch(self) -> dict[str, Any]:
        """The merge patch (RFC 7396) from what is published to what the form holds."""
        changed = {"config": merge_patch(self.before, self.config())}
        changed |= {key: self.cleaned_data[key] for key in ("description", "archived") if key in self.changed_data}
        return {key: value for key, value in changed.items() if value != {}}

    def clean(self) -> dict[str, Any]:
        super().clean()
        config = self.config()
        for problem in [*configuration.check(config), *credentials.problems(config)]:
            self._tell(problem.pointer, problem.detail)
        if not self.superuser:
            for pointer in configuration.needs_admin(config, before=self.before):
                self._tell(pointer, "Only a superuser may set this: it says which key travels to which address.")
        self._refuse_stale()
        wrong = [self.fields[name].label or name.replace("_", " ") for name in self.errors if name in self.fields]
        if wrong:
            self.add_error(None, f"Look at: {', '.join(map(str, wrong))}.")
        return self.cleaned_data

    def _tell(self, pointer: str, detail: str) -> None:
        field = field_of(pointer, self.fields)
        if field is None or field not in self.errors:
            inside = pointer.count("/") > 2 and field in INSIDE
            self.add_error(field, f"{pointer.split('/', 3)[3]}: {detail}" if inside else detail)

    def _refuse_stale(self) -> None:
        if self.instance.pk is None:
            return
        read = self.cleaned_data.get("based_on")
        latest = self.instance.versions.order_by("-version").first()
        if latest and latest.version != read:
            self.add_error(None, (
                f"{latest.created_by} published version {latest.version} after you opened version {read}. "
                "Nothing was saved: copy what you changed, reload this page and apply it there."
            ))  # fmt: skip


def initial_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as the form's fields hold it."""
    limits = config.get("limits") or {}
    shown = {key: config[key] for key in KEYS if key in config}
    if isinstance(shown.get("stop"), str):
        shown["stop"] = [shown["stop"]]
    return shown | {f"limits_{key}": limits.get(key) for key in LIMITS}


def tool_choices(chosen: list[str]) -> list[tuple[str, str]]:
    """Every tool with what it does, and what was chosen by pattern or is not installed: it can be unticked."""
    known = [(tool.name, _tool_label(tool.name, tool.description, EFFECTS[tool.effect])) for tool in REGISTRY.names()]
    others = [name for name in chosen if name not in dict(known)]
    return known + [(name, _tool_label(name, "", _stands_for(name))) for name in others]


def credential_choices(chosen: str) -> list[tuple[str, str]]:
    """Every provider row; and the chosen one when its row is gone, so that another can be chosen."""
    rows = Provider.objects.order_by("provider", "label").values_list("label", "provider", "enabled")
    known = [(label, f"{label} ({provider}{'' if enabled else ', disabled'})") for label, provider, enabled in rows]
    gone = [(chosen, f"{chosen} (deleted)")] if chosen and chosen not in dict(known) else []
    return [("", "the provider's key in the environment"), *known, *gone]


def with_advice(words: str, config: Mapping[str, Any]) -> str:
    """A field's help with what is worth saying of the published model."""
    said = credentials.advice_of(config)
    return format_html('{}<br><b class="console-advice">{}</b>', words, " ".join(said)) if said else words


def field_of(pointer: str, fields: Mapping[str, Any]) -> str | None:
    """The field that a problem's pointer means: `/config/limits/max_steps` is `limits_max_steps`; None is the form."""
    parts = pointer.strip("/").split("/")[1:]
    for name in ("_".join(parts[:2]), parts[0] if parts else ""):
        if name in fields:
            return name
    return None


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The RFC 7396 patch that makes `after` of `before`."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch


def _kept(before: Mapping[str, Any], key: str, value: Any) -> Any:
    """An empty field is no change where the key was as good as empty."""
    old = before.get(key)
    return old if value in ABSENT and old in ABSENT else value


def _present(values: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that are empty, but for those that were published empty."""
    return {key: value for key, value in values.items() if value not in ABSENT or before.get(key, ...) == value}


def _in_order(before: list[str] | None, chosen: list[str] | None) -> list[str] | None:
    """The order of the boxes is no change: what was chosen before keeps its place."""
    old, new = before or [], chosen or []
    return [name for name in old if name in new] + [name for name in new if name not in old] or chosen


def _stands_for(name: str) -> str:
    names = REGISTRY.matching(name)
    return f"stands for {', '.join(names)}" if names else "not installed"


def _tool_label(name: str, description: str, effect: str) -> str:
    words = " · ".join(filter(None, (description.split("\n")[0], effect)))
    return format_html("<b>{}</b> <small>{}</small>", name, words)
