"""Tasks over REST: each view reads like a form, the verbs are those of `tasks.lifecycle`."""
from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from typing import Any, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from agents.requests import Nothing, StrictView, refuse
from tasks import lifecycle, removal
from tasks.filters import TaskFilters
from tasks.keys import allows
from tasks.models import ApiKey, Event, Step, Task
from tasks.serializers import (
    EventSerializer,
    StepSerializer,
    SubmissionSerializer,
    TaskDetailSerializer,
    TaskSerializer,
    as_accepted,
    shown,
    submitted,
)
from tasks.watch import HOLD, WATCH

READ = ("tasks:read", "tasks:read_all")
WRITE = ("tasks:write",)
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?\Z")
WAIT = re.compile(r"\d{1,2}(\.\d{1,3})?\Z", re.ASCII)
MAX_WAIT_SECONDS = 60
MAX_SEQ = 2**31 - 1


def key_of(request: Request) -> ApiKey:
    """Whoever came past authentication and permissions has one."""
    return cast(ApiKey, request.auth)


def visible(key: ApiKey) -> QuerySet[Task]:
    """The tasks that a key may know of: its own, or all of them."""
    tasks = Task.objects.select_related("agent", "version")
    return tasks if allows(key, "tasks:read_all") else tasks.filter(api_key=key)


class TaskList(StrictView, generics.ListAPIView[Task]):
    """The tasks, newest first."""

    scopes = {"GET": READ, "POST": WRITE}
    problems = {"POST": ("409", "422")}
    serializer_class = TaskSerializer
    queryset = Task.objects.none()
    filterset_class = TaskFilters
    query_parameters = ("metadata.",)

    def get_queryset(self) -> QuerySet[Task]:
        return visible(key_of(self.request))

    @extend_schema(description="Newest first. `metadata.<key>=<value>` filters by metadata.")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        description="Submit a task. It is visible to every reader when this answers.",
        request=SubmissionSerializer,
        responses={201: TaskSerializer},
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
    )
    def post(self, request: Request) -> Response:
        submission = lifecycle.Submission(
            **submitted(request.data),
            api_key=key_of(request),
            submitted_by=str(request.auth),
            idempotency_key=idempotency_key(request),
            body_digest=digest(request.data),
        )
        task, replayed = lifecycle.submit(submission)
        response = created(as_accepted(task) if replayed else task)
        if replayed:
            response["Idempotent-Replayed"] = "true"
        return response


class TaskDetail(StrictView, generics.RetrieveAPIView[Task]):
    """One task; with `wait`, answered at its end or after that many seconds."""

    scopes = {"GET": READ, "DELETE": ("admin",)}
    problems = {"GET": ("404",), "DELETE": ("404", "409")}
    serializer_class = TaskDetailSerializer
    queryset = Task.objects.none()
    query_parameters = ("wait", "include")
    lookup_url_kwarg = "task_id"
    filter_backends = ()

    def get_queryset(self) -> QuerySet[Task]:
        return visible(key_of(self.request))

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "include": included(self.request)}

    @extend_schema(
        parameters=[
            OpenApiParameter("wait", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS}),
            OpenApiParameter("include", {"type": "string", "enum": ["history"]}),
        ]
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        seconds = wait_seconds(request)
        included(request)
        task = self.get_object()
        if seconds and not task.is_final and HOLD not in request.META:
            request.META[HOLD] = partial(WATCH.until_final, task.id, seconds)
        return Response(self.get_serializer(task).data)

    @extend_schema(responses={204: None}, operation_id="tasks_delete")
    def delete(self, request: Request, task_id: str) -> Response:
        """Remove a task that has ended, with its steps, events and idempotency keys. Its children and retries stay."""
        removal.remove(task_id)
        return Response(status=204)


class OfTask(StrictView, generics.ListAPIView[Any]):
    """What hangs on one task, in the order it happened."""

    scopes = {"GET": READ}
    problems = {"GET": ("404",)}
    page_by = "seq"
    filter_backends = ()

    def of_task(self) -> dict[str, str]:
        """The filter for the task in the URL; 404 when it is not there to be seen."""
        task = get_object_or_404(visible(key_of(self.request)), pk=self.kwargs["task_id"])
        return {"task_id": task.id}


class StepList(OfTask):
    """Its model and tool calls, oldest first."""

    serializer_class = StepSerializer
    queryset = Step.objects.none()

    def get_queryset(self) -> QuerySet[Step]:
        return Step.objects.filter(**self.of_task())


@extend_schema(
    parameters=[OpenApiParameter("after", {"type": "integer", "minimum": 0}, description="Events with a higher seq.")]
)
class EventList(OfTask):
    """Its events, oldest first."""

    serializer_class = EventSerializer
    queryset = Event.objects.none()
    query_parameters = ("after",)

    def get_queryset(self) -> QuerySet[Event]:
        return Event.objects.filter(seq__gt=after(self.request), **self.of_task())


class Verb(StrictView, generics.GenericAPIView[Task]):
    """Something that is done to a task."""

    scopes = {"POST": WRITE}
    problems = {"POST": ("404", "409")}
    serializer_class = TaskSerializer
    filter_backends = ()
    queryset = Task.objects.none()

    def owned(self, request: Request, task_id: str) -> Task:
        """The task in the URL, when the key may steer it; the body has to be empty."""
        Nothing(data=request.data).is_valid(raise_exception=True)
        return self.steerable(request, task_id)

    def steerable(self, request: Request, task_id: str) -> Task:
        key = key_of(request)
        task = get_object_or_404(visible(key), pk=task_id)
        if task.api_key_id != key.pk and not allows(key, "admin"):
            raise PermissionDenied("This task is another key's; only that key or one with the scope admin can do that.")
        return task


class Cancel(Verb):
    @extend_schema(request=None, responses={202: TaskSerializer}, operation_id="tasks_cancel")
    def post(self, request: Request, task_id: str) -> Response:
        """End it now when it does not run; when it does, the call under way is ended and the task with it."""
        task = lifecycle.cancel(self.owned(request, task_id).id, by=str(request.auth))
        return Response(shown(task), status=202)


class Retry(Verb):
    @extend_schema(request=None, responses={201: TaskSerializer}, operation_id="tasks_retry")
    def post(self, request: Request, task_id: str) -> Response:
        """Submit the same work again, as a new task."""
        task = self.owned(request, task_id)
        return created(lifecycle.retry(task.id, by=str(request.auth), api_key=key_of(request)))


def created(task: Task) -> Response:
    headers = {"Location": f"/api/v1/tasks/{task.id}/"}
    return Response(shown(task), status=201, headers=headers)


def idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.match(key):
        refuse("Idempotency-Key", "invalid_idempotency_key", "Use 1 to 255 printable ASCII characters.")
    return key or ""


def digest(body: Any) -> str:
    """Of the canonical body: the order of keys and the white space do not make another request."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def wait_seconds(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not WAIT.match(text) or float(text) > MAX_WAIT_SECONDS:
        refuse("wait", "invalid_wait", f"wait={text[:20]!r}: use seconds from 0 to {MAX_WAIT_SECONDS}.")
    return float(text)


def included(request: Request) -> tuple[str, ...]:
    text = request.query_params.get("include")
    if text not in (None, "history"):
        refuse("include", "invalid_choice", f"include={str(text)[:20]!r}: use history.")
    return (text,) if text else ()


def after(request: Request) -> int:
    text = request.query_params.get("after", "0")
    if not is_seq(text):
        refuse("after", "invalid_seq", f"after={text[:20]!r}: use the seq of an event, or 0.")
    return int(text)


def is_seq(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_SEQ
