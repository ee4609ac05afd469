"""`demo`: a fleet, agents that need no provider, one task followed to its end, and where to go from there."""
from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opspawn_site.fleet import seeding, start
from opspawn_site.fleet.backing import join
from opspawn_site.fleet.client import Client
from opspawn_site.fleet.errors import FleetError, FolderInUse
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.follow import exit_code, follow_task
from opspawn_site.fleet.progress import Progress, addresses, progress
from opspawn_site.fleet.supervisor import Stopped
from opspawn_site.fleet.transcript import transcript


@dataclass(frozen=True, slots=True)
class Wish:
    """What `demo` was asked for."""

    once: bool = False
    model: str | None = None
    as_json: bool = False
    reset: bool = False


def run(folder: DataFolder, wish: Wish) -> int:
    """Use the fleet that runs in the folder, else bring one up."""
    shown = progress(wish.as_json)
    line = folder.running()
    if line is None:
        options = start.Options(folder, reset=wish.reset)
        return start.bring_up(options, shown, lambda fleet: _with_own(fleet, wish, shown))
    if wish.reset:
        raise FolderInUse(folder.path, folder.holder())
    shown.note(f"using the fleet that runs in {folder.path} (pid {line['pids']['supervisor']})")
    if wish.as_json:
        shown.ready(line)
    join(folder, line)
    import django

    django.setup()
    try:
        return _walk(line, wish, shown, time.sleep, "This fleet was running before and goes on.")
    except KeyboardInterrupt:
        return start.INTERRUPTED


def _with_own(fleet: start.Fleet, wish: Wish, shown: Progress) -> int:
    if wish.as_json:
        shown.ready(fleet.line)
    else:
        shown.pause()
    closing = "--once: everything ends now." if wish.once else "Ctrl-C ends everything."
    code = _walk(fleet.line, wish, shown, fleet.supervisor.pause, closing)
    if wish.once:
        return code
    with contextlib.suppress(Stopped):
        fleet.run()
    return 0


def _walk(
    line: dict[str, Any], wish: Wish, shown: Progress, pause: Callable[[float], None], closing: str
) -> int:
    """Seed the agents, submit, follow, and say where to look. Needs django.setup()."""
    client, pages = Client(line), transcript(wish.as_json)
    task = client.submit({"agent": _agent(wish.model), "name": "Demo", "input_data": {"prompt": seeding.QUESTION}})
    pages.submitted(task, seeding.QUESTION)
    ended = follow_task(client, task, pages, pause)
    pages.links(_links(line, task["task_id"]))
    pages.closing(closing)
    return exit_code(ended)


def _agent(model: str | None) -> str:
    from django.db import DatabaseError, connection

    from agents.errors import AgentError

    try:
        seeding.demo_agents()
        return seeding.live_agent(model) if model else "demo"
    except AgentError as error:
        details = "; ".join(problem.detail for problem in error.problems)
        raise FleetError(f"--model {model}: {details or error}") from None
    except DatabaseError as error:
        raise FleetError(f"the demo's agents were not made: {' '.join(str(error).split())}") from None
    finally:
        connection.close()


def _links(line: dict[str, Any], task_id: str) -> dict[str, str]:
    """Where to go from here. The first one signs in, once, within ten minutes."""
    from django.contrib.auth import get_user_model
    from django.db import connection

    from opspawn_site.admin_link import link_for

    site = line["admin"]["url"].removesuffix("/admin/")
    page = f"/admin/tasks/task/{task_id}/change/"
    user: Any = get_user_model().objects.get(username=seeding.ADMIN)
    once = link_for(site, user, page)
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    body = json.dumps({"agent": "demo-echo", "input_data": {"prompt": "Hello"}})
    headers = f"-H 'Authorization: Bearer {line['api_key']}' -H 'Content-Type: application/json'"
    known = addresses(line)
    return {
        "One-time link": once,
        "Task page": site + page,
        **{name: known[name] for name in ("Admin", "API docs", "API key")},
        "curl": f"curl -sS {line['api']}/tasks/ {headers} -d '{body}'",
        "Flower": known["Flower"],
        "Logs": os.path.join(line["data_dir"], "logs"),
    }
