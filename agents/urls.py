"""Addresses of agents, below /api/v1/."""
from __future__ import annotations

from django.urls import path

from agents import views

urlpatterns = [
    path("agents/", views.AgentList.as_view()),
    path("agents/<slug:slug>/", views.AgentDetail.as_view(), name="agent"),
    path("agents/<slug:slug>/versions/", views.VersionList.as_view()),
    path("agents/<slug:slug>/versions/<int:version>/", views.VersionDetail.as_view()),
    path("agents/<slug:slug>/rollback/", views.Rollback.as_view()),
]
