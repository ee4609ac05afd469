"""The admin's name, colours and navigation: what django-unfold reads from the settings."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def item(title: str, icon: str, address: str, permission: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:{address}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": may(permission)}


def at_the_ledger(request: HttpRequest) -> bool:
    """The page on usage lies below the ledger's address, and has an entry of its own."""
    match = request.resolver_match
    return bool(match and match.url_name and match.url_name.startswith("llm_ledgerentry_"))


JOBS = "django_celery_results"


UNFOLD = {
    "SITE_TITLE": "Opspawn",
    "SITE_HEADER": "Opspawn",
    "SITE_SUBHEADER": "Agents as durable tasks",
    "SITE_URL": None,  # there is no other site to return to
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("opspawn/icon.svg")},
    ],
    "STYLES": [lambda request: static("opspawn/console.css")],
    "SHOW_HISTORY": False,  # the audit log has it, with values
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "opspawn_site.dashboard.environment",
    "DASHBOARD_CALLBACK": "opspawn_site.dashboard.dashboard",
    "BORDER_RADIUS": "6px",
    "COLORS": {"primary": {
        "50": "#f0fdfa", "100": "#ccfbf1", "200": "#99f6e4", "300": "#5eead4", "400": "#2dd4bf", "500": "#14b8a6",
        "600": "#0d7a70", "700": "#0f766e", "800": "#115e59", "900": "#134e4a", "950": "#042f2e",
    }},
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {"items": [{"title": "Overview", "icon": "home", "link": reverse_lazy("admin:index")}]},
            {"title": "Agents", "separator": True, "items": [
                item("Agents", "smart_toy", "agents_agent", "agents.view_agent"),
                item("Versions", "history", "agents_agentversion", "agents.view_agentversion"),
                item("Providers", "vpn_key", "llm_provider", "llm.view_provider"),
            ]},
            {"title": "Tasks", "separator": True, "items": [
                item("Tasks", "task_alt", "tasks_task", "tasks.view_task"),
                item("Steps", "format_list_numbered", "tasks_step", "tasks.view_step"),
            ]},
            {"title": "Money", "separator": True, "items": [
                {"title": "Usage", "icon": "monitoring", "link": reverse_lazy("admin:llm_usage"),
                 "permission": may("llm.view_ledgerentry")},
                item("Budgets", "account_balance_wallet", "llm_budget", "llm.view_budget"),
                item("Prices", "sell", "llm_price", "llm.view_price"),
                {**item("Ledger", "receipt_long", "llm_ledgerentry", "llm.view_ledgerentry"), "active": at_the_ledger},
            ]},
            {"title": "Operations", "separator": True, "items": [
                item("Workers", "memory", "tasks_worker", "tasks.view_worker"),
                item("Job results", "fact_check", f"{JOBS}_taskresult", f"{JOBS}.view_taskresult"),
                item("Audit log", "policy", "auditlog_logentry", "auditlog.view_logentry"),
            ]},
            {"title": "Access", "separator": True, "items": [
                item("API keys", "key", "tasks_apikey", "tasks.view_apikey"),
                item("Users", "person", "auth_user", "auth.view_user"),
                item("Groups", "group", "auth_group", "auth.view_group"),
            ]},
        ],
    },
}  # fmt: skip
