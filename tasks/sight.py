"""One look at all that is watched: the events after each place, as a stream sends them, in one query."""
from __future__ import annotations

import json
from collections.abc import Collection
from itertools import groupby
from typing import Any, NamedTuple

from django.db import connection
from rest_framework.renderers import JSONRenderer

from tasks.models import Event
from tasks.serializers import EventSerializer
from tasks.states import FINAL

BATCH_EVENTS = 200  # of one place in one look
LOOK_EVENTS = 2000  # of all places in one look: with 500 places behind, each gets 4 and the next look follows at once

STATEMENT = """
SELECT w.place, t.status, w.key IS NOT NULL AND (
           k.id IS NULL OR k.revoked_at IS NOT NULL OR coalesce(k.expires_at <= clock_timestamp(), false)
       ), e.seq, e.type, e.at, e.data
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS w(id, after, key, place)
LEFT JOIN tasks_task t ON t.id = w.id
LEFT JOIN tasks_apikey k ON k.id = w.key
LEFT JOIN LATERAL (
    SELECT seq, type, at, data FROM tasks_event WHERE task_id = w.id AND seq > w.after ORDER BY seq LIMIT %s
) e ON t.last_seq > w.after
ORDER BY w.place, e.seq
"""


class Place(NamedTuple):
    """A position in a task's history. `after` None: no event is wanted, only whether the task has ended."""

    task_id: str
    after: int | None = None
    key_id: int | None = None  # the API key that reads


class Sight(NamedTuple):
    """What a look found: events as they are sent, and the place after them."""

    frames: tuple[bytes, ...]
    place: Place
    over: bool  # the task is final and all of it is here, it is gone, or its reader's key is no longer good
    more: bool  # there may be more to read at once


def look(places: Collection[Place]) -> dict[Place, Sight]:
    """What is to be seen from each place now. One query; the connection is handed back."""
    try:
        return seen(places)
    finally:
        connection.close()


def seen(places: Collection[Place], batch: int | None = None) -> dict[Place, Sight]:
    """As `look`, on the caller's connection. `batch` bounds the events of each place."""
    order = list(places)
    batch = batch or batch_of(sum(place.after is not None for place in order))
    columns = [[place[column] for place in order] for column in range(3)]
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT, [*columns, batch])
        rows = cursor.fetchall()
    shown = EventSerializer()
    return {
        order[number - 1]: sight_of(order[number - 1], list(found), batch, shown)
        for number, found in groupby(rows, key=lambda row: row[0])
    }


def batch_of(places: int) -> int:
    """Events that each place may read in one look: 1 place → 200, 50 → 40, 500 → 4, 5,000 → 1."""
    return max(1, min(BATCH_EVENTS, LOOK_EVENTS // max(1, places)))


def sight_of(place: Place, rows: list[tuple[Any, ...]], batch: int, shown: EventSerializer) -> Sight:
    _, status, refused, *_ = rows[0]
    if refused or status is None:
        return Sight((), place, over=True, more=False)
    events = [row[3:] for row in rows if row[3] is not None]
    more = len(events) == batch
    after = place._replace(after=events[-1][0]) if events else place
    frames = tuple(frame(place.task_id, event, shown) for event in events)
    return Sight(frames, after, over=status in FINAL and not more, more=more)


def frame(task_id: str, row: tuple[Any, ...], shown: EventSerializer) -> bytes:
    """An event in the stream: the JSON is byte for byte that of `/events/`, and holds no line break."""
    seq, type_, at, data = row
    event = Event(task_id=task_id, seq=seq, type=type_, at=at, data=json.loads(data))
    text = JSONRenderer().render(shown.to_representation(event))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, type_.encode(), text)
