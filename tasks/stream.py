"""A task's events as they happen: server-sent events that any web process continues from any place."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from agents.requests import StrictView, refuse
from tasks.sight import Place, seen
from tasks.views import MAX_SEQ, READ, after, is_seq, key_of, visible
from tasks.watch import STREAM, WATCH

RETRY = b"retry: 2000\n\n"  # milliseconds after which a client comes again
COMMENT = b": \n\n"
COMMENT_SECONDS = 10.0  # proxies cut what is silent for long, and writing finds out who has left
PLAIN_EVENTS = 1000  # for a server that cannot stream
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx sends on at once
SEQ = {"type": "integer", "minimum": 0, "maximum": MAX_SEQ}


class TaskStream(StrictView):
    """The events of a task as server-sent events, the past ones first."""

    scopes = {"GET": READ}
    problems = {"GET": ("404",)}
    query_parameters = ("after",)

    @extend_schema(
        operation_id="tasks_stream",
        description="Server-sent events (WHATWG HTML, 9.2): `id` is the event's seq, `event` its type, `data` the "
        "event as `/events/` shows it. Ends after the task's final event; when it ends before, come again with "
        "`Last-Event-ID`. A comment is sent every 10 s. `Accept` is not read.",
        parameters=[
            OpenApiParameter("after", SEQ, description="Events with a higher seq."),
            OpenApiParameter(
                "Last-Event-ID", SEQ, OpenApiParameter.HEADER, description="As `after`, and stronger than it."
            ),
        ],
        responses={(200, "text/event-stream"): OpenApiResponse({"type": "string"}, description="The stream.")},
    )
    def get(self, request: Request, task_id: str) -> HttpResponse:
        key = key_of(request)
        start = last_event_id(request)
        task = get_object_or_404(visible(key), pk=task_id)
        place = Place(task.id, start, key.pk)
        answer = HttpResponse(content_type="text/event-stream", headers=HEADERS)
        if request.method == "GET" and STREAM in request.META:
            request.META[STREAM] = sse(place)
        elif request.method == "GET":
            answer.content = plain(place)
        return answer


def last_event_id(request: Request) -> int:
    """After which event to begin. The header is the later word: a browser repeats `?after=` when it reconnects."""
    start = after(request)
    text = request.headers.get("Last-Event-ID", "")
    if text and not is_seq(text):
        refuse("Last-Event-ID", "invalid_seq", f"Last-Event-ID: {text[:20]!r}: use the id of an event, or 0.")
    return int(text) if text else start


async def sse(place: Place, comment_seconds: float = COMMENT_SECONDS) -> AsyncGenerator[bytes]:
    """Everything after the place, and then each event within a tick of its commit, to the task's end."""
    clock = asyncio.get_running_loop().time
    with WATCH.reading(place) as reader:
        yield RETRY
        comment_at = clock() + comment_seconds
        while not reader.done:
            if batch := await reader.batch(until=comment_at):
                yield b"".join(batch)
            if clock() >= comment_at:
                yield COMMENT
                comment_at = clock() + comment_seconds


def plain(place: Place) -> bytes:
    """What there is now, for a server that cannot stream: a client that follows the protocol comes again for more."""
    return RETRY + b"".join(seen([place], PLAIN_EVENTS)[place].frames)
