"""How soon: a bell is answered, a dead worker's tasks go on, a busy worker is drained.

    .venv/bin/python -m benchmarks.recovery [--kills 5] [--tasks 20]

Real Celery workers on embedded services, scripted model. Recovery is from `kill -9` to the next `task.started` of each
task that the dead worker held, against the lease and two sweeps; the drain from SIGTERM to the end of the process,
against its longest step and two seconds; the bell from the commit of a submission to the `step.started` of its first
step. All times but the first and the drain's are PostgreSQL's.
"""
from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

LEASE, HEARTBEAT, SWEEP = 6.0, 2.0, 1.0
TIMES = {
    "TASK_LEASE_SECONDS": str(LEASE), "TASK_HEARTBEAT_SECONDS": str(HEARTBEAT), "TASK_SWEEP_SECONDS": str(SWEEP),
}  # fmt: skip
STEP_SECONDS = 2.0

STARTED_AGAIN = """
SELECT extract(epoch FROM min(at))::float FROM tasks_event
WHERE type = 'task.started' AND task_id = ANY(%s) AND extract(epoch FROM at) > %s GROUP BY task_id
"""
ANSWERED = """
SELECT extract(epoch FROM event.at - task.created_at)::float FROM tasks_task AS task
JOIN tasks_event AS event ON event.task_id = task.id AND event.type = 'step.started' WHERE task.id = ANY(%s)
"""
REPEATED = """
SELECT count(*) FROM (SELECT 1 FROM tasks_event WHERE type = 'step.started' AND task_id = ANY(%s)
    GROUP BY task_id, data->>'step' HAVING count(*) > 1) AS twice
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20)
    asked = parser.parse_args()
    from opspawn_site import testing

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    end = testing.start(throwaway=False)
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        bells()
        recoveries(asked.kills, asked.tasks)
        drain(asked.tasks)
    finally:
        end()
    return 0


def agent(slug: str, steps: int, seconds: float) -> None:
    from agents import versions

    calls = [{"tool_calls": [{"name": "add_numbers", "arguments": {"a": 1, "b": 2}}], "delay_seconds": seconds}]
    script = calls * steps + [{"text": "done"}]
    config = {"model": "scripted/list", "provider_options": {"script": script}, "tools": ["add_numbers"]}
    versions.create(slug, config | {"limits": {"max_steps": 1000}}, by="benchmark")


def submitted(slug: str, count: int) -> list[str]:
    from tasks import lifecycle

    asked = lifecycle.Submission(agent=slug, input_data={"prompt": "go"})
    return [lifecycle.submit(asked)[0].id for _ in range(count)]


def query(statement: str, *values: Any) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


def bells() -> None:
    from tasks.models import Task
    from tasks.tests.workers import running_worker, until

    agent("short", 0, 0)
    with running_worker(**TIMES):
        ids = []
        for _ in range(220):
            [task_id] = submitted("short", 1)
            until(lambda: Task.objects.filter(id=task_id, status="completed").exists())  # noqa: B023 - called at once
            ids.append(task_id)
    waited = sorted(query(ANSWERED, ids[20:]))
    print(f"bell to first step: p50 {statistics.median(waited) * 1000:.1f} ms, "
          f"p95 {waited[int(len(waited) * 0.95)] * 1000:.1f} ms, of {len(waited)}", flush=True)  # fmt: skip


def recoveries(kills: int, tasks: int) -> None:
    from tasks.models import Task
    from tasks.tests.workers import Worker, until

    agent("long", 500, 0.5)
    bound = LEASE + 2 * SWEEP
    taken = []
    survivor = Worker(**TIMES)
    for _ in range(kills):
        doomed = Worker(**TIMES)
        doomed.wait_until_ready()
        ids = submitted("long", tasks)
        until(lambda: Task.objects.filter(id__in=ids, status="running", steps_count__gte=2).count() == tasks, 60)  # noqa: B023
        held = [row.id for row in Task.objects.filter(id__in=ids) if row.worker.endswith(f":{doomed.process.pid}")]
        killed = time.time()
        doomed.kill()
        until(lambda: len(query(STARTED_AGAIN, held, killed)) == len(held), 60)  # noqa: B023
        taken += [at - killed for at in query(STARTED_AGAIN, held, killed)]
        _cancel(ids)
    survivor.kill()
    taken.sort()
    print(f"recovery of {len(taken)} tasks after {kills} kills: p50 {statistics.median(taken):.2f} s, "
          f"max {taken[-1]:.2f} s; lease + 2 sweeps is {bound:g} s", flush=True)  # fmt: skip


def _cancel(ids: list[str]) -> None:
    from tasks import lifecycle
    from tasks.models import Task
    from tasks.tests.workers import until

    for task_id in ids:
        lifecycle.cancel(task_id, by="benchmark")
    until(lambda: not Task.objects.filter(id__in=ids, status__in=["pending", "running"]).exists(), 30)


def drain(tasks: int) -> None:
    from tasks.models import Task
    from tasks.tests.workers import Worker, until

    agent("steady", 5, STEP_SECONDS)
    worker = Worker(**TIMES)
    worker.wait_until_ready()
    ids = submitted("steady", tasks)
    until(lambda: Task.objects.filter(id__in=ids, status="running", steps_count__gte=1).count() == tasks, 60)
    began = time.monotonic()
    code = worker.stop(60)
    took = time.monotonic() - began
    left = Task.objects.filter(id__in=ids, status="pending").count()
    second = Worker(**TIMES)
    until(lambda: Task.objects.filter(id__in=ids, status="completed").count() == tasks, 120)
    second.kill()
    [repeated] = query(REPEATED, ids)
    print(f"drain of {tasks} tasks: {took:.2f} s (longest step + 2 s is {STEP_SECONDS + 2:g}), exit {code}, "
          f"{left} handed back, {repeated} calls repeated", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
