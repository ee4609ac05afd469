"""Provider rows over REST: the key goes in and never comes out; a test is made by a worker."""
from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents import credentials, provider_rows
from agents.requests import Instant, StrictSerializer, StrictView, Text, Truth, refuse
from agents.serializers import checked
from llm import providers, trial
from llm.models import Provider
from llm.providers import MODEL_CHARS
from tasks.trials import ask_worker

ADMIN = ("admin",)
KEY_HELP = "The key itself, or `env:NAME` for a variable of the workers' environment. Never answered."


class TrialSerializer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    latency_ms = serializers.FloatField(allow_null=True, help_text="Null when no worker made the call.")
    error = serializers.CharField(allow_null=True)
    model = serializers.CharField()
    at = serializers.CharField(allow_null=True, help_text="RFC 3339, UTC.")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return super().to_representation({**instance, "error": instance["error"] or None})


class ProviderSerializer(serializers.Serializer[Provider]):
    label = serializers.CharField()  # type: ignore[assignment]
    provider = serializers.CharField()
    base_url = serializers.CharField(allow_null=True, help_text="Null is the provider's own address.")
    key = serializers.SerializerMethodField(help_text="`env:NAME`, or `…` and the last four characters; null is none.")
    key_changed_at = Instant(allow_null=True)
    enabled = serializers.BooleanField()
    last_test = TrialSerializer(allow_null=True)
    created_at = Instant()
    updated_at = Instant()

    def get_key(self, row: Provider) -> str | None:
        return row.shown_key or None

    def to_representation(self, instance: Provider) -> dict[str, Any]:
        shown = super().to_representation(instance)
        return {**shown, "base_url": shown["base_url"] or None}


class ProviderPatchSerializer(StrictSerializer):
    base_url = Text(required=False, allow_null=True, allow_blank=True, help_text="Null is the provider's own address.")
    key = Text(required=False, allow_null=True, help_text=KEY_HELP)
    enabled = Truth(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: "" if value is None else value for name, value in attrs.items()}


class NewProviderSerializer(ProviderPatchSerializer):
    label = Text(max_length=64, help_text="What an agent's `credential` names.")  # type: ignore[assignment]
    provider = Text(max_length=50, help_text="LiteLLM's name; it stays, as the label does.")


class TrialRequestSerializer(StrictSerializer):
    model = Text(required=False, max_length=MODEL_CHARS, help_text="Default: the provider's default model.")


class ProviderList(StrictView, generics.ListAPIView[Provider]):
    """The provider rows, newest first."""

    scopes = {"GET": ADMIN, "POST": ADMIN}
    problems = {"POST": ("409",)}
    serializer_class = ProviderSerializer
    queryset = Provider.objects.all()
    filter_backends = ()

    @extend_schema(request=NewProviderSerializer, responses={201: ProviderSerializer})
    def post(self, request: Request) -> Response:
        """Keep a provider's key under a label."""
        row = provider_rows.create(checked(NewProviderSerializer, request.data))
        headers = {"Location": f"/api/v1/providers/{row.label}/"}
        return Response(ProviderSerializer(row).data, status=201, headers=headers)


class ProviderDetail(StrictView, generics.RetrieveAPIView[Provider]):
    """One provider row."""

    scopes = {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN}
    problems = {"GET": ("404",), "PATCH": ("404",), "DELETE": ("404", "409")}
    serializer_class = ProviderSerializer
    queryset = Provider.objects.all()
    lookup_field = "label"
    filter_backends = ()

    @extend_schema(request=ProviderPatchSerializer, responses={200: ProviderSerializer})
    def patch(self, request: Request, label: str) -> Response:
        """Replace its key or its address, or disable it; calls use it within about a second."""
        row = provider_rows.change(label, checked(ProviderPatchSerializer, request.data))
        return Response(ProviderSerializer(row).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, label: str) -> Response:
        """Remove it, unless an agent's current version names it (409)."""
        credentials.remove(label)
        return Response(status=204)


class ProviderTest(StrictView, generics.GenericAPIView[Provider]):
    scopes = {"POST": ADMIN}
    problems = {"POST": ("404",)}
    serializer_class = TrialSerializer
    queryset = Provider.objects.all()
    filter_backends = ()

    @extend_schema(request=TrialRequestSerializer, responses={200: TrialSerializer}, operation_id="providers_test")
    def post(self, request: Request, label: str) -> Response:
        """Have a worker make the smallest call with it; 200 also when that fails, after at most 20 s."""
        body = checked(TrialRequestSerializer, request.data)
        row = get_object_or_404(Provider, label=label)
        return Response(TrialSerializer(ask_worker(row.label, model_to_try(row, body.get("model", "")))).data)


def model_to_try(row: Provider, named: str) -> str:
    """`provider/name` of what was asked for, or of the provider's default. Raises ValidationError."""
    if not named:
        model = trial.model_for(row.provider)
        if not model:
            refuse("model", "required", f"{row.provider} has no default model; name one of its models.")
        return model
    model = providers.resolve("", row.provider, named)
    if providers.split(model)[0] != row.provider:
        refuse("model", "wrong_provider", f"{row.label!r} holds a key of {row.provider}; name one of its models.")
    return model
