"""What is measured at the end: rows, events and the ledger against each other, by queries that assume nothing."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from opspawn_site.chaos.faults import Loss
from opspawn_site.chaos.ledger import Entry
from opspawn_site.chaos.plan import KINDS

FINAL = ("completed", "failed", "cancelled")

TASKS = "SELECT id, name, status, waiting_on, error_code FROM tasks_task ORDER BY id"
STEPS = "SELECT task_id || ':' || seq, name, status FROM tasks_step WHERE name LIKE 'ledger_%'"
DONE_TWICE = """
SELECT task_id, data->>'step' FROM tasks_event WHERE type = 'step.completed' GROUP BY 1, 2 HAVING count(*) > 1
"""
STEP_GAPS = "SELECT task_id FROM tasks_step GROUP BY task_id HAVING min(seq) <> 1 OR max(seq) <> count(*)"
EVENT_GAPS = """
SELECT task.id FROM tasks_task AS task LEFT JOIN tasks_event AS event ON event.task_id = task.id
GROUP BY task.id HAVING count(event.seq) = 0 OR min(event.seq) <> 1 OR max(event.seq) <> count(event.seq)
    OR max(event.seq) <> task.last_seq
"""
WRONG_END = """
SELECT task.id FROM tasks_task AS task
JOIN tasks_event AS event ON event.task_id = task.id AND event.seq = task.last_seq
WHERE task.status IN ('completed', 'failed', 'cancelled') AND event.type <> 'task.' || task.status
"""
REPEATED = """
SELECT task.id, coalesce(calls.repeated, 0), coalesce(lost.times, 0) FROM tasks_task AS task
LEFT JOIN (
    SELECT task_id, sum(started - 1) AS repeated FROM (
        SELECT task_id, count(*) AS started FROM tasks_event
        WHERE type = 'step.started' AND data->>'kind' = 'llm' GROUP BY task_id, data->>'step'
    ) AS of_step GROUP BY task_id
) AS calls ON calls.task_id = task.id
LEFT JOIN (
    SELECT task_id, count(*) AS times FROM tasks_event WHERE type = 'task.recovered' GROUP BY task_id
) AS lost ON lost.task_id = task.id
"""
RECOVERED = """
SELECT event.data->>'worker', extract(epoch FROM event.at)::float8, (
    SELECT extract(epoch FROM min(next.at))::float8 FROM tasks_event AS next
    WHERE next.task_id = event.task_id AND next.seq > event.seq AND next.type = 'task.started')
FROM tasks_event AS event WHERE event.type = 'task.recovered'
"""
IDLE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass
class Findings:
    """The counts of one trial. Lists hold ids, so that a wrong count can be looked into."""

    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    lost: list[str] = field(default_factory=list)
    doubled_tasks: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    once_doubled: list[str] = field(default_factory=list)
    once_missing: list[str] = field(default_factory=list)  # done, and not in the ledger
    once_visible: int = 0  # in the ledger, and not done: the step says that it is not known, in a task that ended
    once_hidden: list[str] = field(default_factory=list)  # in the ledger, and no step tells of it
    keyed_doubled: list[str] = field(default_factory=list)
    done_twice: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    takeovers: int = 0
    repeated_calls: int = 0
    repeated_too_often: list[str] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)  # from the loss of a worker to the task's next start
    quiet_recovery_seconds: list[float] = field(default_factory=list)  # of these, where no other fault came between
    idle_in_transaction: int = 0
    connections: int = 0

    @property
    def broken(self) -> dict[str, list[str]]:
        """The promises that were not kept, each with the ids that show it."""
        found = {
            "lost": self.lost, "doubled": self.doubled_tasks + self.done_twice, "stuck": self.stuck,
            "once doubled": self.once_doubled, "once missing": self.once_missing, "once hidden": self.once_hidden,
            "keyed doubled": self.keyed_doubled, "gaps": self.gaps, "repeated too often": self.repeated_too_often,
            "ended otherwise": self.unexpected, "idle in transaction": ["connection"] * self.idle_in_transaction,
        }  # fmt: skip
        return {name: ids for name, ids in found.items() if ids}


def measure(
    database_url: str, accepted: Mapping[int, str], ledger: Sequence[Entry], losses: Sequence[Loss],
    spans: Sequence[tuple[float, float]],
) -> Findings:  # fmt: skip
    """Look at everything that the trial left. Queries; changes nothing."""
    found = Findings(accepted=len(accepted))
    with psycopg.connect(database_url, autocommit=True) as database:
        tasks = database.execute(TASKS).fetchall()
        _tasks(found, accepted, tasks)
        _effects(found, ledger, {key: (name, status) for key, name, status in database.execute(STEPS)})
        found.done_twice = [f"{task}:{step}" for task, step in database.execute(DONE_TWICE)]
        for statement in (STEP_GAPS, EVENT_GAPS, WRONG_END):
            found.gaps += [row[0] for row in database.execute(statement)]
        _repeats(found, database.execute(REPEATED).fetchall())
        _recoveries(found, database.execute(RECOVERED).fetchall(), losses, spans)
        found.idle_in_transaction = _one(database, IDLE)
        found.connections = _one(database, CONNECTIONS)
    return found


def connections(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as database:
        return _one(database, CONNECTIONS)


def unfinished(database_url: str) -> int | None:
    """How many tasks are neither final nor waiting; None while PostgreSQL does not say."""
    try:
        with psycopg.connect(database_url, connect_timeout=2, autocommit=True) as database:
            return _one(database, "SELECT count(*) FROM tasks_task WHERE status IN ('pending', 'running', 'waiting')")
    except psycopg.Error:
        return None


def _tasks(found: Findings, accepted: Mapping[int, str], tasks: Sequence[tuple[Any, ...]]) -> None:
    known = {row[0] for row in tasks}
    found.lost = [task_id for task_id in accepted.values() if task_id not in known]
    names = Counter(row[1] for row in tasks)
    found.doubled_tasks = [name for name, count in names.items() if count > 1]
    for task_id, name, status, waiting_on, error_code in tasks:
        end = f"{status}:{error_code or waiting_on}" if status in ("failed", "waiting") else status
        found.ends[end] += 1
        if status not in FINAL and not (status == "waiting" and waiting_on):
            found.stuck.append(task_id)
        elif status == "waiting":
            found.waiting += 1
        elif end not in KINDS[name.split()[1]].ends:
            found.unexpected.append(f"{task_id} ({name}: {end})")


def _effects(found: Findings, ledger: Sequence[Entry], steps: Mapping[str, tuple[str, str]]) -> None:
    did = Counter((entry.tool, entry.key) for entry in ledger if entry.mark == "did")
    found.once_doubled = [key for (tool, key), count in did.items() if tool == "ledger_once" and count > 1]
    found.keyed_doubled = [key for tool, key in did if tool == "ledger_keyed" and steps.get(key, ("",))[0] != tool]
    for key, (name, status) in steps.items():
        happened = did[(name, key)]
        if name == "ledger_once" and status == "done" and not happened:
            found.once_missing.append(key)
        if name == "ledger_once" and happened and status != "done":
            found.once_visible += 1
    found.once_hidden = [key for tool, key in did if tool == "ledger_once" and key not in steps]


def _repeats(found: Findings, rows: Sequence[tuple[Any, ...]]) -> None:
    for task_id, repeated, takeovers in rows:
        found.takeovers += takeovers
        found.repeated_calls += int(repeated)
        if repeated > takeovers:
            found.repeated_too_often.append(task_id)


def _recoveries(
    found: Findings, rows: Sequence[tuple[Any, ...]], losses: Sequence[Loss], spans: Sequence[tuple[float, float]]
) -> None:
    """From the loss of a worker to the next start of each task that it held, sorted."""
    for worker, at, started in rows:
        pids = {word.rpartition(":")[2] for word in worker.split()}
        of_it = [loss.at for loss in losses if loss.at <= at and str(loss.pid) in pids]
        if not of_it or not started:
            continue
        lost = max(of_it)
        found.recovery_seconds.append(round(started - lost, 2))
        if not _disturbed(lost, started, losses, spans):
            found.quiet_recovery_seconds.append(round(started - lost, 2))
    found.recovery_seconds.sort()
    found.quiet_recovery_seconds.sort()


def _disturbed(
    lost: float, started: float, losses: Sequence[Loss], spans: Sequence[tuple[float, float]]
) -> bool:
    """Whether another fault was going on, or began, between the loss and the start."""
    others = [span for span in spans if not span[0] - 0.1 <= lost <= span[0] + 0.5]
    dead = [loss for loss in losses if abs(loss.at - lost) > 0.5]
    return any(span[0] < started and span[1] > lost for span in others) or any(lost < one.at < started for one in dead)


def _one(database: psycopg.Connection[Any], statement: str) -> int:
    row = database.execute(statement).fetchone()
    return int(row[0]) if row else 0
