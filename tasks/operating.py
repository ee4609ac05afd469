"""What an operator asks over REST: why a task does not move, to resume it, which workers there are."""
from __future__ import annotations

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from agents.requests import StrictView
from tasks import resuming, why
from tasks.keys import allows
from tasks.models import Task, Worker
from tasks.serializers import ResumeSerializer, TaskSerializer, WhySerializer, WorkerSerializer, shown
from tasks.views import READ, Verb, key_of, visible
from tasks.workers import roll_call


class Resume(Verb):
    @extend_schema(request=ResumeSerializer, responses={202: TaskSerializer}, operation_id="tasks_resume")
    def post(self, request: Request, task_id: str) -> Response:
        """Say what became of a step that is `unknown`, or add to the budget; the task goes on, or is cancelled."""
        said = ResumeSerializer(data=request.data)
        said.is_valid(raise_exception=True)
        task = self.steerable(request, task_id)
        given, by = said.validated_data, str(request.auth)
        if "add_budget_usd" in given:
            beyond = allows(key_of(request), "admin")
            resumed = resuming.add_budget(task.id, given["add_budget_usd"], by=by, beyond_agent=beyond)
        else:
            resumed = resuming.resolve(task.id, given["resolve"], by=by, result=given.get("result"))
        return Response(shown(resumed), status=202)


class Why(StrictView, generics.GenericAPIView[Task]):
    """Why the task does not move, and the one thing to do about it."""

    scopes = {"GET": READ}
    problems = {"GET": ("404",)}
    serializer_class = WhySerializer
    queryset = Task.objects.none()
    filter_backends = ()

    @extend_schema(operation_id="tasks_why")
    def get(self, request: Request, task_id: str) -> Response:
        key = key_of(request)
        task = get_object_or_404(visible(key), pk=task_id)
        reasons = why.reasons(task, shared_money=allows(key, "tasks:read_all"))
        answer = {"status": task.status, "waiting_on": task.waiting_on, "reasons": reasons}
        return Response(WhySerializer(answer).data)


class WorkerList(StrictView, generics.ListAPIView[Worker]):
    """The workers that were heard of in the last 24 hours, newest first."""

    scopes = {"GET": ("admin",)}
    serializer_class = WorkerSerializer
    queryset = Worker.objects.none()
    filter_backends = ()

    def get_queryset(self) -> QuerySet[Worker]:
        return roll_call()
