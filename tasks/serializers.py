"""Tasks, steps and events as the REST API reads and shows them."""
from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents import config
from agents.requests import Instant, JsonObject, StrictSerializer, Text, Whole, refuse
from agents.strict import dollars, money
from tasks.history import memory_history
from tasks.models import Event, Step, Task, Worker
from tasks.resuming import RESOLUTIONS
from tasks.states import ErrorCode, EventType, Status, StepKind, StepStatus, WaitingOn
from tasks.submission import DEPENDENCIES, METADATA_ENTRIES, NAME_CHARS, SESSION_CHARS, TASK_TYPES
from tasks.why import REASONS
from tasks.workers import is_stale

AMOUNT = money()


@extend_schema_field(dict(config.INPUT_SCHEMA))
class InputField(JsonObject):
    """What the agent works on."""


@extend_schema_field(dict(config.OVERRIDES_SCHEMA))
class OverridesField(JsonObject):
    """What this task changes of its agent's configuration."""


@extend_schema_field(dict(config.LIMITS_SCHEMA))
class LimitsField(JsonObject):
    """Bounds of this task."""


@extend_schema_field({"type": "object", "maxProperties": METADATA_ENTRIES, "additionalProperties": {"type": "string"}})
class MetadataField(JsonObject):
    pass


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class ShownMetadata(serializers.JSONField):
    pass


@extend_schema_field({})
class AnyJson(serializers.Field[Any, Any, Any, Any]):
    """Any JSON value, taken and shown as it is."""

    def to_internal_value(self, data: Any) -> Any:
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "pattern": r"^\d+(\.\d+)?$"})
class Money(serializers.Field[Decimal, Any, str, Any]):
    """A decimal string without exponent and trailing zeros: 0.000150 → "0.00015"."""

    def to_representation(self, value: Decimal) -> str:
        return f"{value.normalize():f}"


class SubmissionSerializer(StrictSerializer):
    """The shape of a new task; what it means is checked by `tasks.submission` for every door."""

    agent = Text(required=False, max_length=100, help_text="`slug` or `slug@version`; default: DEFAULT_AGENT.")
    task_type = Text(required=False, max_length=40, help_text=f"One of: {', '.join(TASK_TYPES)}.")
    name = Text(required=False, allow_blank=True, max_length=NAME_CHARS)
    input_data = InputField(help_text="One of prompt, goal, messages; more keys are kept for the agent.")
    agent_config = OverridesField(required=False, source="overrides", help_text="Overrides for this task.")
    priority = Whole(required=False, min_value=-5, max_value=5, help_text="Higher first.")
    scheduled_at = Instant(required=False, allow_null=True, help_text="Not before; until then `pending`.")
    limits = LimitsField(required=False, help_text="Tighter than the agent's own; looser is a 400.")
    metadata = MetadataField(required=False)
    session_id = Text(required=False, allow_null=True, max_length=SESSION_CHARS)
    parent_task_id = Text(required=False, allow_null=True, max_length=40, help_text="A task that has not ended.")
    depends_on = serializers.ListField(
        child=Text(max_length=40), required=False, max_length=DEPENDENCIES,
        help_text="Starts when all of them have completed; fails when one ended otherwise.",
    )  # fmt: skip


class PinnedAgentSerializer(serializers.Serializer[Task]):
    slug = serializers.CharField(source="agent.slug")
    version = serializers.IntegerField(source="version.version")


class UsageSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = Money(allow_null=True, help_text="Null when a price is unknown, never 0 instead.")


class ResultSerializer(serializers.Serializer[Any]):
    agent_outcome = AnyJson()


class TaskSerializer(serializers.Serializer[Task]):
    task_id = serializers.CharField(source="id")
    task_type = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)
    waiting_on = serializers.ChoiceField(WaitingOn.choices, allow_null=True)
    agent = PinnedAgentSerializer(source="*")
    input_data = AnyJson()
    result = ResultSerializer(allow_null=True)
    error_code = serializers.ChoiceField(ErrorCode.choices, allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    priority = serializers.IntegerField()
    attempt = serializers.IntegerField(help_text="Times claimed.")
    steps = serializers.IntegerField(source="steps_count")
    usage = UsageSerializer(source="*")
    metadata = ShownMetadata()
    session_id = serializers.CharField(allow_null=True)
    parent_task_id = serializers.CharField(source="parent_id", allow_null=True)
    retry_of = serializers.CharField(source="retry_of_id", allow_null=True)
    cancel_requested_at = Instant(allow_null=True)
    created_at = Instant()
    updated_at = Instant()
    scheduled_at = Instant(allow_null=True)
    started_at = Instant(allow_null=True)
    completed_at = Instant(allow_null=True)


def shown(task: Task) -> Any:
    """The task as an answer shows it. One serializer for all: making one copies its 25 fields, which costs more than
    using it.
    """
    return _SHOWN.to_representation(task)


def submitted(data: Any) -> dict[str, Any]:
    """The fields of a new task, by the same economy. Raises ValidationError."""
    fields: dict[str, Any] = _SUBMITTED.run_validation(data)
    return fields


_SHOWN, _SUBMITTED = TaskSerializer(), SubmissionSerializer()


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.CharField()
    content = AnyJson()
    tool_calls = serializers.ListField(child=AnyJson(), required=False)
    tool_call_id = serializers.CharField(required=False)


class TaskDetailSerializer(TaskSerializer):
    """A task, with its messages when they were asked for."""

    memory_history = serializers.SerializerMethodField(required=False, help_text="With `?include=history`.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        if self.instance is not None and "history" not in self.context.get("include", ()):
            del fields["memory_history"]
        return fields

    @extend_schema_field(MessageSerializer(many=True))
    def get_memory_history(self, task: Task) -> list[dict[str, Any]]:
        return memory_history(task.steps.order_by("seq"))


class AttemptSerializer(serializers.Serializer[Any]):
    started_at = serializers.DateTimeField()
    seconds = serializers.FloatField()
    error = serializers.CharField(allow_null=True)
    model = serializers.CharField(help_text="The model it was made on.")
    wait_seconds = serializers.FloatField(
        allow_null=True, help_text="Waited after it before the next one; 0 when another model was asked at once."
    )
    skipped = serializers.IntegerField(
        required=False, help_text="How often the model was passed over without being asked; `error` says why."
    )


class StepSerializer(serializers.Serializer[Step]):
    seq = serializers.IntegerField()
    kind = serializers.ChoiceField(StepKind.choices)
    name = serializers.CharField()
    status = serializers.ChoiceField(StepStatus.choices)
    summary = serializers.CharField()
    input = AnyJson()
    output = AnyJson()
    error = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    usage = UsageSerializer(source="*")
    attempts = serializers.SerializerMethodField()
    simulated = serializers.BooleanField()
    started_at = Instant()
    seconds = serializers.FloatField(allow_null=True)

    @extend_schema_field(AttemptSerializer(many=True))
    def get_attempts(self, step: Step) -> list[Any]:
        return step.attempts


class EventSerializer(serializers.Serializer[Event]):
    task_id = serializers.CharField()
    seq = serializers.IntegerField()
    type = serializers.ChoiceField(EventType.choices)
    at = Instant()
    data = JsonObject()  # type: ignore[assignment]


class ReasonSerializer(serializers.Serializer[Any]):
    code = serializers.ChoiceField(REASONS)
    text = serializers.CharField()
    action = serializers.CharField(help_text="The one thing to do about it.")


class WhySerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(Status.choices)
    waiting_on = serializers.ChoiceField(WaitingOn.choices, allow_null=True)
    reasons = ReasonSerializer(many=True, help_text="The decisive one first; never empty.")


@extend_schema_field(dict(AMOUNT.schema))
class Amount(serializers.Field[Decimal, Any, str, Any]):
    """US dollars over 0, as a string such as "1.50" or as a number; shown as `Money` is."""

    rule = AMOUNT

    def to_internal_value(self, data: Any) -> Decimal:
        for problem in self.rule.check(data, ""):
            raise serializers.ValidationError(problem.detail, problem.code)
        return dollars(data) or Decimal(0)

    def to_representation(self, value: Decimal) -> str:
        return f"{value.normalize():f}"


class ResumeSerializer(StrictSerializer):
    """What became of a step that is `unknown`, or more money for a task that waits for its budget: one of the two."""

    resolve = serializers.ChoiceField(
        RESOLUTIONS, required=False, help_text="It happened, do it again, or stop the task."
    )
    add_budget_usd = Amount(required=False, help_text="Raises the task's own budget.")
    result = AnyJson(required=False, allow_null=True, help_text="What the call brought; only with `happened`.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        said = [name for name in ("resolve", "add_budget_usd") if name in attrs]
        if not said:
            refuse("resolve", "required", "Say resolve (of a step that is unknown) or add_budget_usd (of a budget).")
        if len(said) > 1:
            refuse(said[1], "not_with_resolve", f"Say one thing: {said[0]}, or {said[1]}.")
        if "result" in attrs and attrs.get("resolve") != "happened":
            given = attrs.get("resolve", "add_budget_usd")
            refuse("result", "not_with_resolve", f"There is no result to give with {given!r}; leave it out.")
        return attrs


class WorkerSerializer(serializers.Serializer[Worker]):
    name = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField()
    version = serializers.CharField()
    queues = serializers.ListField(child=serializers.CharField())
    slots = serializers.IntegerField(help_text="Tasks that it can run at once.")
    in_flight = serializers.IntegerField(help_text="Tasks that it ran at its last heartbeat.")
    draining = serializers.BooleanField(help_text="It is shutting down and claims nothing more.")
    started_at = Instant()
    heartbeat_at = Instant()
    live = serializers.BooleanField(help_text="Heard of within three heartbeats.")
    stale = serializers.SerializerMethodField(help_text="It runs another version than the site.")

    def get_stale(self, worker: Worker) -> bool:
        return is_stale(worker)


def as_accepted(task: Task) -> Task:
    """The task as its submission was answered, whatever became of it since. The row is not touched."""
    first = Task(
        status=Status.PENDING,
        **{name: getattr(task, name) for name in (
            "id", "task_type", "name", "agent", "version", "input_data", "priority", "metadata", "session_id",
            "parent_id", "retry_of_id", "created_at", "scheduled_at",
        )},
    )  # fmt: skip
    first.updated_at = task.created_at
    return first
