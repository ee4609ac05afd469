"""Addresses of tasks, below /api/v1/."""
from __future__ import annotations

from django.urls import path, register_converter

from tasks import operating, providers, spending, views
from tasks.stream import TaskStream


class TaskId:
    """An id of another shape names nothing: the address does not exist."""

    regex = "task_[0-9a-f]{32}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(TaskId, "task_id")

urlpatterns = [
    path("tasks/", views.TaskList.as_view()),
    path("tasks/<task_id:task_id>/", views.TaskDetail.as_view(), name="task"),
    path("tasks/<task_id:task_id>/steps/", views.StepList.as_view()),
    path("tasks/<task_id:task_id>/events/", views.EventList.as_view()),
    path("tasks/<task_id:task_id>/stream/", TaskStream.as_view()),
    path("tasks/<task_id:task_id>/cancel/", views.Cancel.as_view()),
    path("tasks/<task_id:task_id>/retry/", views.Retry.as_view()),
    path("tasks/<task_id:task_id>/resume/", operating.Resume.as_view()),
    path("tasks/<task_id:task_id>/why/", operating.Why.as_view()),
    path("providers/", providers.ProviderList.as_view()),
    path("providers/<slug:label>/", providers.ProviderDetail.as_view()),
    path("providers/<slug:label>/test/", providers.ProviderTest.as_view()),
    path("budgets/", spending.BudgetList.as_view()),
    path("budgets/<int:budget_id>/", spending.BudgetDetail.as_view()),
    path("prices/", spending.PriceList.as_view()),
    path("prices/<path:model>/", spending.PriceDetail.as_view()),
    path("usage/", spending.UsageList.as_view()),
    path("workers/", operating.WorkerList.as_view()),
]
