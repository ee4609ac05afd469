"""Agents over REST: configurations, their versions, and the way back to one of them."""
from __future__ import annotations

import re

from django.db.models import F, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from agents import credentials, versions
from agents.config import needs_admin
from agents.errors import AdminNeeded, FieldProblem, StaleVersion, UnknownVersion
from agents.models import AgentVersion
from agents.requests import StrictView, refuse
from agents.serializers import (
    AgentPatchSerializer,
    AgentSerializer,
    NewAgentSerializer,
    RollbackSerializer,
    VersionSerializer,
    checked,
)

READ = ("agents:read", "agents:write")
WRITE = ("agents:write",)
IF_MATCH = OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description='`"<version>"`, several, or `*`.')
ENTITY_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*(?:,|\Z)')  # RFC 9110, 8.8.3


def current() -> QuerySet[AgentVersion]:
    """The current version of every agent."""
    return AgentVersion.objects.select_related("agent").filter(version=F("agent__version"))


class AgentList(StrictView, generics.ListAPIView[AgentVersion]):
    """The agents, newest first."""

    scopes = {"GET": READ, "POST": WRITE}
    problems = {"POST": ("409",)}
    serializer_class = AgentSerializer
    page_by = "-agent_id"
    filter_backends = ()

    def get_queryset(self) -> QuerySet[AgentVersion]:
        return current()

    @extend_schema(request=NewAgentSerializer, responses={201: AgentSerializer})
    def post(self, request: Request) -> Response:
        """Create an agent and its version 1."""
        body = checked(NewAgentSerializer, request.data)
        config = body.pop("config", {})
        refuse_addresses(request, needs_admin(config))
        agent = versions.create(body.pop("slug"), config, by=str(request.auth), **body)
        return saved(agent.slug, status=201)


class AgentDetail(StrictView, generics.GenericAPIView[AgentVersion]):
    """One agent. `ETag` is its version."""

    scopes = {"GET": READ, "PATCH": WRITE}
    problems = {"GET": ("404",), "PATCH": ("404", "412")}
    serializer_class = AgentSerializer
    filter_backends = ()

    def get_queryset(self) -> QuerySet[AgentVersion]:
        return current()

    def get(self, request: Request, slug: str) -> Response:
        return shown(slug)

    @extend_schema(request=AgentPatchSerializer, responses={200: AgentSerializer}, parameters=[IF_MATCH])
    def patch(self, request: Request, slug: str) -> Response:
        """Change it by a JSON merge patch; publishes a new version unless nothing changes."""
        body = checked(AgentPatchSerializer, request.data)
        now = get_object_or_404(current(), agent__slug=slug)
        refuse_addresses(request, needs_admin(versions.merged(now.config, body.get("config", {})), before=now.config))
        note = body.pop("note", "")
        versions.change(slug, body, note=note, by=str(request.auth), if_match=expected(request, now))
        return saved(slug)


class VersionList(StrictView, generics.ListAPIView[AgentVersion]):
    """The versions of an agent, newest first."""

    scopes = {"GET": READ}
    problems = {"GET": ("404",)}
    serializer_class = VersionSerializer
    page_by = "-version"
    filter_backends = ()
    queryset = AgentVersion.objects.none()

    def get_queryset(self) -> QuerySet[AgentVersion]:
        now = get_object_or_404(current().only("agent_id"), agent__slug=self.kwargs["slug"])
        return AgentVersion.objects.filter(agent_id=now.agent_id)


class VersionDetail(StrictView, generics.GenericAPIView[AgentVersion]):
    """One version of an agent; it never changes."""

    scopes = {"GET": READ}
    problems = {"GET": ("404",)}
    serializer_class = VersionSerializer
    filter_backends = ()
    queryset = AgentVersion.objects.none()

    def get(self, request: Request, slug: str, version: int) -> Response:
        found = get_object_or_404(AgentVersion, agent__slug=slug, version=version)
        return Response(VersionSerializer(found).data)


class Rollback(StrictView, generics.GenericAPIView[AgentVersion]):
    scopes = {"POST": WRITE}
    problems = {"POST": ("404", "412")}
    serializer_class = AgentSerializer
    filter_backends = ()
    queryset = AgentVersion.objects.none()

    @extend_schema(
        request=RollbackSerializer,
        responses={201: AgentSerializer},
        parameters=[IF_MATCH],
        operation_id="agents_rollback",
    )
    def post(self, request: Request, slug: str) -> Response:
        """Publish the configuration of an earlier version as a new one."""
        body = checked(RollbackSerializer, request.data)
        now = get_object_or_404(current(), agent__slug=slug)
        old = now.agent.versions.filter(version=body["version"]).first()
        if old is None:
            detail = f"Agent {slug!r} has no version {body['version']}; it has 1 to {now.version}."
            raise UnknownVersion(detail, problems=(FieldProblem("/version", "unknown_version", detail),))
        refuse_addresses(request, needs_admin(old.config, before=now.config), at="/version")
        versions.rollback(slug, by=str(request.auth), if_match=expected(request, now), **body)
        return saved(slug, status=201)


def shown(slug: str, status: int = 200) -> Response:
    """The agent as it is now, with its entity tag."""
    now = get_object_or_404(current(), agent__slug=slug)
    headers = {"ETag": f'"{now.version}"'}
    if status == 201:
        headers["Location"] = f"/api/v1/agents/{slug}/"
    return Response(AgentSerializer(now).data, status=status, headers=headers)


def saved(slug: str, status: int = 200) -> Response:
    """The agent as it was just saved; a `Warning` for each thing that is worth saying of its model."""
    response = shown(slug, status)
    if said := credentials.advice_of(response.data["config"]):
        response["Warning"] = ", ".join(map(warning, said))
    return response


def warning(sentence: str) -> str:
    """A warn-value of RFC 7234, 5.5: code 299, agent unknown, a quoted ASCII string. RFC 9111 gave it up unreplaced."""
    text = "".join(sign for sign in sentence.encode("ascii", "backslashreplace").decode() if sign.isprintable())
    return '299 - "{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def refuse_addresses(request: Request, pointers: list[str], at: str = "") -> None:
    """Raise AdminNeeded for addresses that a key without `admin` would set: a provider's key travels there."""
    if pointers and "admin" not in request.auth.scopes:  # type: ignore[union-attr]
        detail = f"Only a key with the scope admin may set {', '.join(pointers)}."
        places = tuple(FieldProblem(at or one, "permission_denied", detail) for one in pointers)
        raise AdminNeeded(detail, problems=places)


def expected(request: Request, now: AgentVersion) -> int | None:
    """The version that `If-Match` demands, or None when any will do. Raises StaleVersion when it is not there.

    A weak tag never matches (RFC 9110, 13.1.1: the comparison is strong).
    """
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return None
    tags, end = [], 0
    while found := ENTITY_TAG.match(header, end):
        tags.append(found)
        end = found.end()
    if not tags or end != len(header):
        refuse("If-Match", "invalid_etag", 'Use `*` or entity tags as they were answered, like "3".')
    if not any(tag[1] is None and tag[2] == str(now.version) for tag in tags):
        raise StaleVersion(f"Agent {now.agent.slug!r} is at version {now.version}: read it again.")
    return now.version


