"""What a fresh fleet holds: an administrator, a key, the default agent; for the demo, agents that need no provider."""
from __future__ import annotations

from typing import Any

from opspawn_site.fleet.folder import DataFolder

ADMIN = "admin"
BY = "opspawn"
SIMULATED = "Simulated: a scripted model, no provider is called. "
QUESTION = (
    "Three crates hold 12 bottles each and a fourth holds 14. How many bottles is that, what do they cost at 3.50 "
    "a bottle, and when was this answered (UTC)?"
)
ANSWER = (
    "There are 50 bottles: three crates of 12 make 36, and 14 more are in the fourth.\n"
    "At 3.50 each they cost 175.00. The clock's answer stands in step 5."
)


def _turn(text: str, *calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    turn: dict[str, Any] = {"delay_seconds": 0.3}
    if text:
        turn["text"] = text
    if calls:
        turn["tool_calls"] = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return turn


SCRIPT = [
    _turn("", ("calculator", {"expression": "3 * 12"})),
    _turn("", ("add_numbers", {"a": 36, "b": 14}), ("current_time", {"timezone": "UTC"})),
    _turn("", ("calculator", {"expression": "50 * 3.5"})),
    _turn(ANSWER),
]
WALK_TOOLS = ["calculator", "add_numbers", "current_time"]
DEMO_AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": (
        SIMULATED + "Plays a fixed script with real tools, for `./opspawn demo`.",
        {"model": "scripted/list", "provider_options": {"script": SCRIPT}, "tools": WALK_TOOLS},
    ),
    "demo-echo": (
        SIMULATED + "Answers with your last message.",
        {"model": "scripted/echo"},
    ),
}


def administrator(folder: DataFolder) -> str | None:
    """Make the superuser. Returns its password, or None when somebody has set another one."""
    from django.contrib.auth import get_user_model

    users, password = get_user_model().objects, folder.secret("admin")
    user = users.filter(username=ADMIN).first()
    if user is None:
        users.create_superuser(ADMIN, "", password)
        return password
    return password if user.check_password(password) else None


def api_key(folder: DataFolder) -> str:
    """The fleet's own key, scope `admin`: the one of last time while it is good, else a new one."""
    from tasks import keys

    known = folder.kept_secret("api_key")
    if known and keys.authenticate(known):
        return known
    _, token = keys.issue("fleet", ["admin"])
    folder.keep_secret("api_key", token)
    return token


def default_agent() -> None:
    """It names no model, so that LLM_DEFAULT_MODEL applies."""
    from django.conf import settings

    config = {
        "instructions": "You are a careful assistant. Use the tools where they help, and say what you found.",
        "tools": ["calculator", "current_time"],
    }
    _ensure(settings.DEFAULT_AGENT, "The agent of tasks that name none.", config)


def demo_agents() -> None:
    for slug, (description, config) in DEMO_AGENTS.items():
        _ensure(slug, description, config)


def live_agent(model: str) -> str:
    """The demo's agent on a real model; its configuration follows the model asked for. Returns its slug."""
    from agents import versions
    from agents.models import Agent

    slug = "demo-live"
    config = {"model": model, "instructions": "Answer in two sentences. Use the tools for every number.",
              "tools": WALK_TOOLS}  # fmt: skip
    if Agent.objects.filter(slug=slug).exists():
        versions.change(slug, {"config": {"model": model}, "archived": False}, note=f"demo --model {model}", by=BY)
    else:
        versions.create(slug, config, description="The demo's question to a real model.", by=BY)
    return slug


def _ensure(slug: str, description: str, config: dict[str, Any]) -> None:
    """Make the agent unless there is one: what people changed stays."""
    from agents import versions
    from agents.models import Agent

    if not Agent.objects.filter(slug=slug).exists():
        versions.create(slug, config, description=description, note="Seeded.", by=BY)
