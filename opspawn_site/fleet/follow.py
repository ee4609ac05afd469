"""Submitting a task and following it to its end over REST: `submit`, and the heart of `demo`."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opspawn_site.fleet.client import Client, Unreachable
from opspawn_site.fleet.transcript import Transcript, transcript

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 60.0  # with an API that does not answer: its web process may be starting again
FINAL = {"task.completed", "task.failed", "task.cancelled"}
OPEN = "started"  # a step that has not ended yet


def submit(line: dict[str, Any], agent: str, prompt: str, *, follow: bool) -> int:
    """`submit`: prints the task's id, or follows it: exit code 0 when it completed, 1 when not."""
    client = Client(line)
    task = client.submit({"agent": agent, "input_data": {"prompt": prompt}})
    if not follow:
        print(task["task_id"])
        return 0
    shown = transcript(as_json=False)
    shown.submitted(task, prompt)
    try:
        return exit_code(follow_task(client, task, shown, time.sleep))
    except KeyboardInterrupt:
        shown.closing(f"{task['task_id']} goes on without you.")
        return 130


def follow_task(
    client: Client, task: dict[str, Any], shown: Transcript, pause: Callable[[float], None]
) -> dict[str, Any]:
    """Show each step as it ends and return the task when it has. `pause` may look after other things meanwhile."""
    task_id, after, started = task["task_id"], 0, time.monotonic()
    told: set[int] = set()
    simulated = False
    answered = time.monotonic()
    while True:
        try:
            events = client.events(task_id, after)
            steps = client.steps(task_id) if any(one["type"].startswith("step.") for one in events) else []
            last = client.task(task_id) if any(one["type"] in FINAL for one in events) else None
        except Unreachable:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            pause(POLL_SECONDS * 4)
            continue
        answered = time.monotonic()
        for event in events:
            after = event["seq"]
            shown.event(event)
        for step in steps:
            if step["seq"] not in told and step["status"] != OPEN:
                told.add(step["seq"])
                simulated = simulated or step["simulated"]
                shown.step(step)
        if last is not None:
            shown.ended(last, time.monotonic() - started, simulated)
            return last
        pause(POLL_SECONDS)


def exit_code(task: dict[str, Any]) -> int:
    return 0 if task["status"] == "completed" else 1
