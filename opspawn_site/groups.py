"""The two groups that every installation starts with."""
from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEW = (
    "agents.view_agent", "agents.view_agentversion", "tasks.view_task", "tasks.view_step", "tasks.view_worker",
    "llm.view_budget", "llm.view_price", "llm.view_ledgerentry",
)
GROUPS = {
    "Viewers": VIEW,
    "Operators": (
        *VIEW, "agents.add_agent", "agents.change_agent", "tasks.cancel_task", "tasks.retry_task", "tasks.resume_task",
    ),
}


def seed(using: str = "default", **signal: Any) -> None:
    """Make the groups that are missing, with their permissions; called after each migration.

    A group that is there is left as it is, so that what a superuser took away or added stays. One that was
    deleted or renamed comes back: take its permissions away instead.
    """
    there = set(Group.objects.using(using).filter(name__in=GROUPS).values_list("name", flat=True))
    for name in sorted(GROUPS.keys() - there):
        group = Group.objects.using(using).create(name=name)
        group.permissions.set(_permissions(GROUPS[name], using))


def _permissions(names: tuple[str, ...], using: str) -> list[Permission]:
    wanted = Q()
    for name in names:
        app, codename = name.split(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    return list(Permission.objects.using(using).filter(wanted))
