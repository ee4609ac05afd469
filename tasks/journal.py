"""The journal of one run: every model and tool call is a step that is committed as started before it is made.

The end of one step and the start of the next share a commit. After a takeover the same calls are asked for again
in the same order, and what is `done` is answered from the rows.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import structlog
from django.db import InterfaceError, OperationalError, connection
from psycopg import sql

from llm.ledger import Charge
from llm.messages import Attempt
from tasks import cancelling, moves
from tasks.charges import write_alone
from tasks.leases import LEASES, Held
from tasks.models import Step, Task
from tasks.moves import Begun, Change, Ended, Note
from tasks.parking import Parked
from tasks.states import FINAL, EventType, Status, StepKind, StepStatus
from tasks.stops import Cancelled, Fenced, Nondeterminism, Released
from tasks.tally import is_made_again, tally, to_repeat, with_earlier

log = structlog.get_logger(__name__)

# Time spent running in this attempt, by the database's clock and never past the lease.
RAN = sql.SQL(
    "running_seconds + greatest(0, extract(epoch FROM least(clock_timestamp(), lease_until) - claimed_at))"
)
LET_GO = {"lease_until": None, "claimed_at": None, "worker": "", "rung_at": None, "running_seconds": RAN}
DEPENDED_ON = "EXISTS (SELECT 1 FROM tasks_dependency AS other WHERE other.on_id = moved.id)"
STEP_ENDS = frozenset({EventType.STEP_COMPLETED, EventType.STEP_FAILED})


class Journal:
    """Draws step numbers, replays what is done, and writes what happens, fenced by the attempt."""

    def __init__(self, held: Held, recorded: list[Step]) -> None:
        self._held = held
        self._recorded = {step.seq: step for step in recorded}
        self._seq = 0
        self._open: Begun | None = None
        self._opened_at = 0.0
        self._ended: list[Ended] = []
        self._notes: list[Note] = []
        self._charges: list[Charge] = []
        self.depended_on = True  # as far as is known: whether other tasks may wait for the end of this one

    def check(self) -> None:
        """Raise Fenced, Cancelled or Released when the run has to stop at this step boundary."""
        self.check_stopped()
        if LEASES.draining.is_set():
            raise Released

    def check_stopped(self) -> None:
        """Raise Fenced or Cancelled, also in the middle of a call."""
        if self._held.gone:
            self._fence()
        if self._held.cancelled.is_set():
            raise Cancelled

    def replay(self, kind: str, name: str, given: Any) -> Step | None:
        """Move on to the next step and return its row when an earlier attempt finished it.

        Raises Nondeterminism when the row is of another call. A model step is compared by kind (a default
        model may have changed meanwhile), a tool step by kind, name and arguments.
        """
        self._seq += 1
        row = self._row()
        if row is None:
            return None
        same = row.kind == kind and (kind == "llm" or (row.name == name and row.input == given))
        if not same:
            raise Nondeterminism(
                f"Step {self._seq} was the {row.get_kind_display().lower()} {row.name!r}, "
                f"and the agent now asks for {name!r}. Retry the task to start it anew."
            )
        return row if row.status in (StepStatus.DONE, StepStatus.FAILED) and not to_repeat(row) else None

    def tried(self) -> tuple[Attempt, ...]:
        """Attempts at the present model call that an earlier try of it settled: each was followed by a wait."""
        row = self._row()
        listed = row.attempts if row is not None and is_made_again(row) else []
        attempts = [Attempt.from_json(item) for item in listed]
        return tuple(attempt for attempt in attempts if attempt.wait_seconds is not None)

    @property
    def seq(self) -> int:
        """The present step's."""
        return self._seq

    @property
    def key(self) -> str:
        """What a `keyed` tool tells its calls apart by: the same for each attempt at this step."""
        return f"{self._held.task_id}:{self._seq}"

    def interrupted(self) -> Step | None:
        """The present step as an earlier attempt left it: begun, and not known to have ended."""
        row = self._row()
        return row if row is not None and row.status in (StepStatus.STARTED, StepStatus.UNKNOWN) else None

    def take_over(self, row: Step) -> None:
        """Go on with a step that an earlier attempt began, without another call."""
        self._open = Begun(row.seq, row.kind, row.name, row.input, row.call_id)
        self._opened_at = time.monotonic()

    def begin(self, kind: str, name: str, given: Any, *, progress_seconds: float, call_id: str = "") -> None:
        """Commit that the step starts, with the end of the step before it.

        The call has to end within `progress_seconds`, or the heartbeat lets the lease go. Raises Fenced.
        """
        begun = Begun(self._seq, kind, name[:200], given, call_id[:200], again=self._row() is not None)
        self._notes.append(Note(EventType.STEP_STARTED, {"step": begun.seq, "kind": kind, "name": begun.name}))
        self._write(begun=(begun,), landed=lambda: self._has_begun(begun.seq))
        self._open = begun
        self._opened_at = time.monotonic()
        self._held.progress_by = self._opened_at + progress_seconds

    def end(self, status: StepStatus, *, charges: Sequence[Charge] = (), **fields: Any) -> None:
        """Keep the end of the open step, and the charges of its call; both are committed with what comes next."""
        begun = self._open
        if begun is None:
            raise RuntimeError("no step is open")
        seconds = round(time.monotonic() - self._opened_at, 3)
        ended = with_earlier(self._recorded, Ended(begun.seq, status.value, seconds=seconds, **fields))
        self._open, self._held.progress_by = None, float("inf")
        self._ended.append(ended)
        self._notes.append(_note_of(begun, ended))
        self._charges += charges

    def tell(self, note: Note) -> None:
        """Keep an event; it is committed with what comes next."""
        self._notes.append(note)

    def settle(self) -> None:
        """Commit the end of the last step, when its call was not charged yet. Raises Fenced."""
        if self._charges:
            last = self._ended[-1].seq
            self._write(landed=lambda: self._has_ended(last))

    def retrying(self, attempt: Attempt, wait_seconds: float) -> None:
        """Tell that a try of the open model call failed and will be repeated. Best effort; raises Fenced."""
        note = Note(
            EventType.STEP_RETRYING,
            {"step": self._seq, "error": attempt.error, "wait_seconds": round(wait_seconds, 3), "model": attempt.model},
        )
        try:
            if moves.apply(self._held.task_id, Change(attempt=self._held.attempt, notes=(note,))) is None:
                raise Fenced
        except (OperationalError, InterfaceError):
            log.warning("event_not_written", task_id=self._held.task_id, type=note.type.value)
        finally:
            connection.close()

    def finish(self, to: Status, *, note: Note, **columns: Any) -> None:
        """Commit the end of the run with the end of the last step. Raises Fenced."""
        if self._open is not None:
            self.end(StepStatus.FAILED, error="Ended while it ran.", summary="ended while it ran")
        self._notes.append(note)
        assign = LET_GO | {"completed_at": sql.SQL("clock_timestamp()")} | columns
        row = self._write(to=to, assign=assign, landed=self._is_final, returning=(DEPENDED_ON,))
        self.depended_on = row is None or row[DEPENDED_ON]

    def park(self, parked: Parked) -> None:
        """Commit that the task waits, for a person or a time. Raises Fenced."""
        self._end_by(parked)
        self._notes.append(Note(EventType.TASK_WAITING, parked.told()))
        self._write(to=Status.WAITING, assign=LET_GO | parked.assign(), landed=self._is_not_mine)
        self._heed_cancel()

    def _end_by(self, parked: Parked) -> None:
        if parked.step is None:
            return
        step = with_earlier(self._recorded, parked.step)
        if self._open is not None:
            step = replace(step, seconds=round(time.monotonic() - self._opened_at, 3))
        self._open, self._held.progress_by = None, float("inf")
        self._ended.append(step)
        self._charges += parked.charges

    def drop_values(self) -> None:
        """Keep that the steps ended, without what they brought and cost: PostgreSQL refused some of it."""
        told = "What it brought could not be stored."
        named = {note.data["step"]: note.data for note in self._notes if note.type in STEP_ENDS}
        self._open, self._notes = None, []
        self._ended = [
            with_earlier(self._recorded, Ended(
                step.seq, StepStatus.FAILED.value, summary=told, error=told, cost_usd=None, seconds=step.seconds
            ))
            for step in self._ended if step.seq in named
        ]  # fmt: skip
        for step in self._ended:
            data = named[step.seq]
            self._notes.append(_note_of(Begun(step.seq, data["kind"], data["name"], None), step))

    def release(self) -> None:
        """Hand the task back, with the end of the last step: another worker goes on. Raises Fenced."""
        self._write(to=Status.PENDING, assign=LET_GO, landed=self._is_not_mine)
        self._heed_cancel()

    def _heed_cancel(self) -> None:
        """A cancel that came just before and was not seen here: no other worker would see it either."""
        try:
            cancelling.heed(self._held.task_id)
        finally:
            connection.close()

    def _write(
        self,
        *,
        landed: Callable[[], bool],
        to: Status | None = None,
        assign: dict[str, Any] | None = None,
        begun: tuple[Begun, ...] = (),
        returning: tuple[str, ...] = ("last_seq",),
    ) -> dict[str, Any] | None:
        """One fenced commit, tried until the lease ends when PostgreSQL is away. Raises Fenced.

        A commit whose answer was lost may have happened: `landed` looks before it is tried again; then nothing is
        returned.
        """
        ended = tuple(self._ended)
        change = Change(
            to=to, attempt=self._held.attempt, notes=tuple(self._notes), begun=begun, ended=ended,
            charges=tuple(self._charges),
            assign=tally(ended, begun, self._recorded) | (assign or {}),
        )  # fmt: skip
        pause, unsure = 0.1, False
        while True:
            if self._held.gone:
                self._fence(unsure)
            try:
                has_landed = unsure and landed()
                row = None if has_landed else moves.apply(self._held.task_id, change, returning)
                break
            except (OperationalError, InterfaceError):
                unsure = True
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            finally:
                connection.close()
        if row is None and not has_landed:
            self._held.lost.set()
            self._fence()
        self._ended, self._notes, self._charges = [], [], []
        return row

    def _fence(self, unsure: bool = False) -> NoReturn:
        """Drop what is not written. Only what was billed is kept, unless it may be in the ledger already."""
        if not unsure:
            write_alone(self._charges)
        raise Fenced

    def _row(self) -> Step | None:
        return self._recorded.get(self._seq)

    def _has_begun(self, seq: int) -> bool:
        return Step.objects.filter(task_id=self._held.task_id, seq=seq, attempt=self._held.attempt).exists()

    def _has_ended(self, seq: int) -> bool:
        step = Step.objects.filter(task_id=self._held.task_id, seq=seq, attempt=self._held.attempt)
        return step.exclude(status=StepStatus.STARTED).exists()

    def _is_final(self) -> bool:
        return Task.objects.filter(id=self._held.task_id, attempt=self._held.attempt, status__in=FINAL).exists()

    def _is_not_mine(self) -> bool:
        mine = Task.objects.filter(id=self._held.task_id, attempt=self._held.attempt, status=Status.RUNNING)
        return not mine.exists()


def _note_of(begun: Begun, ended: Ended) -> Note:
    data: dict[str, Any] = {
        "step": ended.seq, "kind": begun.kind, "name": begun.name, "summary": ended.summary, "seconds": ended.seconds
    }
    if begun.kind == StepKind.LLM:
        usage = {"input_tokens": ended.input_tokens, "output_tokens": ended.output_tokens, "cost_usd": ended.cost_usd}
        data |= {"simulated": ended.simulated, "usage": usage}
    if ended.status == StepStatus.DONE:
        return Note(EventType.STEP_COMPLETED, data)
    return Note(EventType.STEP_FAILED, data | {"error": ended.error})
