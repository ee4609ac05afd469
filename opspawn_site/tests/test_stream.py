"""The event stream on a real port: from the first event to the last, from any place, for many readers."""
from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from django.db import connection

from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.servers import serving
from opspawn_site.tests.streams import Reading, note, shown, stored, told
from tasks import lifecycle
from tasks.models import ApiKey, Event, Task
from tasks.sight import BATCH_EVENTS, Place, batch_of
from tasks.stream import sse
from tasks.tests.clients import Consumer, pointers
from tasks.tests.factories import TaskFactory
from tasks.tests.workers import until
from tasks.watch import WATCH


class Site(NamedTuple):
    address: str
    consumer: Consumer

    def read(self, task: Task, after: int | None = None, **headers: str) -> Reading:
        return Reading(self.address, self.consumer.token, task.id, after, **headers)

    def task(self, events: int = 3) -> Task:
        task: Task = TaskFactory(api_key=self.consumer.key)
        note(task.id, events)
        return task


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    with serving() as address:
        yield Site(address, Consumer())


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


# What comes.


def test_a_stream_tells_what_was_what_comes_and_ends_with_the_task(site: Site) -> None:
    task = site.task(events=3)
    reading = site.read(task)
    until(lambda: reading.seqs == [1, 2, 3])
    note(task.id, 2, text="line one\nline two \u2028 \U0001f600")
    until(lambda: reading.seqs == [1, 2, 3, 4, 5])
    assert reading.ended is None
    lifecycle.cancel(task.id, by="test")
    until(lambda: reading.ended)

    assert (reading.ended, reading.status) == ("closed", 200)
    assert reading.text.startswith("retry: 2000\n\n")
    assert [(event.seq, event.type) for event in reading.events] == stored(task.id)
    assert reading.events[-1].type == "task.cancelled"
    assert told(reading) == shown(site.address, site.consumer.token, task.id)


def test_the_data_is_byte_for_byte_that_of_the_events(site: Site) -> None:
    task = site.task(events=0)
    note(task.id, 1, text="é \u2028 \\ \"", number=0.1, nested={"a": [None, True]})
    lifecycle.cancel(task.id, by="test")
    reading = site.read(task)
    until(lambda: reading.ended)
    page = site.consumer.get(f"/tasks/{task.id}/events/").content.decode()
    assert f'{{"data":[{",".join(event.data for event in reading.events)}],' in page


def test_its_headers_keep_proxies_and_caches_from_holding_it_back(site: Site) -> None:
    reading = site.read(site.task(), **{"X-Request-ID": "mine-1", "Accept": "image/png"})
    until(lambda: reading.events)
    assert reading.headers["Content-Type"] == "text/event-stream"
    assert reading.headers["Cache-Control"] == "no-store"
    assert reading.headers["X-Accel-Buffering"] == "no"
    assert reading.headers["X-Request-ID"] == "mine-1"
    assert "Content-Length" not in reading.headers
    reading.leave()


@pytest.mark.parametrize(("query", "header", "first"), [
    ("", None, 1), ("?after=2", None, 3), ("", "4", 5), ("?after=2", "4", 5), ("?after=4", "2", 3), ("?after=2", "", 3),
])  # fmt: skip
def test_it_goes_on_after_the_last_event_id_or_else_after(
    site: Site, query: str, header: str | None, first: int
) -> None:
    task = site.task(events=6)
    lifecycle.cancel(task.id, by="test")
    headers = {"Authorization": f"Bearer {site.consumer.token}"} | ({} if header is None else {"Last-Event-ID": header})
    text = httpx.get(f"{site.address}/api/v1/tasks/{task.id}/stream/{query}", headers=headers).text
    assert [int(seq) for seq in re.findall(r"^id: (\d+)$", text, re.M)] == list(range(first, 8))


def test_a_final_task_sends_the_rest_and_closes_at_once(site: Site) -> None:
    task = site.task(events=BATCH_EVENTS - 1)
    lifecycle.cancel(task.id, by="test")  # its last event is the last of a full batch
    for after, count in ((0, BATCH_EVENTS), (BATCH_EVENTS - 1, 1), (BATCH_EVENTS, 0), (5000, 0)):
        started = time.monotonic()
        reading = site.read(task, after)
        until(lambda: reading.ended)  # noqa: B023
        assert (reading.ended, len(reading.events)) == ("closed", count)
        assert time.monotonic() - started < 3


def test_a_long_history_comes_in_batches_without_gap_or_repeat(site: Site) -> None:
    task = site.task(events=2 * BATCH_EVENTS + 7)
    reading = site.read(task)
    until(lambda: len(reading.events) == 2 * BATCH_EVENTS + 7)
    note(task.id)
    lifecycle.cancel(task.id, by="test")
    until(lambda: reading.ended)
    assert reading.seqs == list(range(1, 2 * BATCH_EVENTS + 10))


def test_two_streams_of_one_task_tell_the_same(site: Site) -> None:
    task = site.task()
    first, second = site.read(task), site.read(task, after=2)
    until(lambda: first.events and second.events)
    note(task.id, 20)
    lifecycle.cancel(task.id, by="test")
    until(lambda: first.ended and second.ended)
    assert first.seqs == list(range(1, 25))
    assert second.events == first.events[2:]


def test_what_is_written_while_streams_open_is_in_each_of_them_once(site: Site) -> None:
    task = site.task()

    def write() -> None:
        try:
            note(task.id, 150)
            lifecycle.cancel(task.id, by="test")
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    readings = []
    while writer.is_alive():
        readings.append(site.read(task))
        time.sleep(0.01)
    until(lambda: all(reading.ended for reading in readings))
    assert {tuple(reading.seqs) for reading in readings} == {tuple(range(1, 155))}


# Who may not read, and how a stream ends before its task.


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["?after=x", "?after=-1", "?after=1.0", "?after=99999999999", "?after=", "?since=1"])
def test_a_wrong_parameter_is_a_400(query: str) -> None:
    consumer = Consumer()
    task: Task = TaskFactory(api_key=consumer.key)
    response = consumer.get(f"/tasks/{task.id}/stream/{query}")
    assert response.status_code == 400
    assert set(pointers(response)) <= {"/after", "/since"}


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["x", "-1", "1.0", "99999999999", "½"])
def test_a_wrong_last_event_id_is_a_400(value: str) -> None:
    consumer = Consumer()
    task: Task = TaskFactory(api_key=consumer.key)
    response = consumer.get(f"/tasks/{task.id}/stream/", HTTP_LAST_EVENT_ID=value)
    assert (response.status_code, pointers(response)) == (400, {"/Last-Event-ID": "invalid_seq"})


def test_without_key_scope_or_sight_there_is_a_problem_and_no_stream(site: Site) -> None:
    task = site.task()
    url = f"{site.address}/api/v1/tasks/{task.id}/stream/"
    other, blind = Consumer("tasks:read"), Consumer("agents:read")
    for token, status in (("", 401), ("ops_wrong", 401), (blind.token, 403), (other.token, 404)):
        response = httpx.get(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
    headers = {"Authorization": f"Bearer {site.consumer.token}"}
    assert httpx.post(url, headers=headers).status_code == 405
    assert httpx.head(url, headers=headers).headers["Content-Type"] == "text/event-stream"
    assert WATCH.open_streams() == 0
    reading = Reading(site.address, Consumer("tasks:read_all").token, task.id)
    until(lambda: reading.events)
    reading.leave()


def test_a_task_that_is_deleted_closes_its_stream(site: Site) -> None:
    task = site.task()
    reading = site.read(task)
    until(lambda: reading.events)
    Event.objects.filter(task=task).delete()
    Task.objects.filter(id=task.id).delete()
    until(lambda: reading.ended == "closed", 5)


def test_a_key_that_is_revoked_reads_no_further(site: Site) -> None:
    task = site.task()
    reading = site.read(task)
    until(lambda: reading.events)
    ApiKey.objects.filter(id=site.consumer.key.pk).update(revoked_at="2026-01-01T00:00:00Z")
    note(task.id)
    until(lambda: reading.ended == "closed", 5)
    assert reading.seqs[:3] == [1, 2, 3]


def test_a_client_that_leaves_frees_everything_at_once(site: Site) -> None:
    task = site.task()
    readings = [site.read(task) for _ in range(5)]
    until(lambda: all(reading.events for reading in readings))
    assert "opspawn_open_streams 5.0" in httpx.get(f"{site.address}/metrics").text
    for reading in readings:
        reading.leave()
    until(lambda: "opspawn_open_streams 0.0" in httpx.get(f"{site.address}/metrics").text, 5)
    until(lambda: WATCH._poller is None or WATCH._poller.done(), 5)  # nobody is left to look for


# Many, slow, silent.


def test_two_hundred_streams_hold_neither_threads_nor_connections(site: Site) -> None:
    task = site.task()
    threads, port = threading.active_count(), int(site.address.rsplit(":", 1)[1])
    request = (
        f"GET /api/v1/tasks/{task.id}/stream/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {site.consumer.token}\r\nConnection: close\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for client in clients:
            client.sendall(request)
        until(lambda: WATCH.open_streams() == 200, 30)
        assert threading.active_count() - threads < 90  # the request pool's own 64, and the watch's few
        assert sessions() <= 22
        assert site.consumer.get("/tasks/?limit=1").status_code == 200  # others are served meanwhile
        note(task.id, 5)
        lifecycle.cancel(task.id, by="test")
        answers = [b"".join(iter(lambda: client.recv(65536), b"")) for client in clients]  # noqa: B023
    expected = [b"%d" % seq for seq in range(1, 10)]
    assert all(re.findall(rb"^id: (\d+)$", answer, re.M) == expected for answer in answers)
    until(lambda: WATCH.open_streams() == 0, 5)


def test_a_reader_that_takes_nothing_costs_one_batch_and_loses_nothing(site: Site) -> None:
    task = site.task(events=0)
    url, port = f"/api/v1/tasks/{task.id}/stream/", int(site.address.rsplit(":", 1)[1])
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        auth = f"Authorization: Bearer {site.consumer.token}\r\nConnection: close\r\n\r\n"
        slow.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n{auth}".encode())
        until(lambda: WATCH.open_streams() == 1)
        note(task.id, 1000, text="x" * 8000)  # 8 MB, more than the sockets between them hold
        lifecycle.cancel(task.id, by="test")
        quick = site.read(task)
        until(lambda: quick.ended)  # is not held up by the slow one
        (behind,) = WATCH._readers
        assert not behind.hungry
        assert len(behind._batch) <= BATCH_EVENTS
        assert (behind.place.after or 0) < 1001
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert [int(seq) for seq in re.findall(rb"^id: (\d+)\r?$", answer, re.M)] == quick.seqs == list(range(1, 1002))


def test_a_silent_stream_sends_a_comment_whenever_its_time_has_come(transactional_db: None) -> None:
    task: Task = TaskFactory()

    async def chunks() -> list[bytes]:
        async with contextlib.aclosing(sse(Place(task.id, 0), comment_seconds=0.05)) as stream:
            return [await anext(stream) for _ in range(4)]

    assert asyncio.run(chunks()) == [b"retry: 2000\n\n", b": \n\n", b": \n\n", b": \n\n"]


@pytest.mark.slow
def test_a_comment_comes_every_ten_seconds(site: Site) -> None:
    reading = site.read(site.task())
    until(lambda: reading.events)
    opened = time.monotonic()
    until(lambda: reading.comments == 2, 25)
    assert 18 < time.monotonic() - opened < 22
    reading.leave()


def test_the_events_of_one_look_are_bounded_however_many_read() -> None:
    assert [batch_of(places) for places in (0, 1, 10, 50, 500, 5000)] == [200, 200, 200, 40, 4, 1]


@pytest.mark.django_db
def test_a_server_that_cannot_stream_answers_what_there_is() -> None:
    consumer = Consumer()
    task: Task = TaskFactory(api_key=consumer.key)
    note(task.id, 3)
    response = consumer.get(f"/tasks/{task.id}/stream/?after=1")
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    assert response.content.startswith(b"retry: 2000\n\nid: 2\nevent: step.retrying\ndata: {")
    assert re.findall(rb"^id: (\d+)$", response.content, re.M) == [b"2", b"3"]


def test_the_program_in_the_how_to_follows_a_task_to_its_end(site: Site) -> None:
    page = (ROOT / "docs" / "how-to" / "follow-a-task.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    task = site.task(events=2)
    environment = os.environ | {"OPSPAWN_API": f"{site.address}/api/v1", "OPSPAWN_KEY": site.consumer.token}
    command = [sys.executable, "-u", "-c", program, task.id]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert follower.stdout.readline().startswith("1 step.retrying")
        lifecycle.cancel(task.id, by="test")
        lines = follower.stdout.read().splitlines()
    assert follower.returncode == 0
    assert [line.split()[:2] for line in lines] == [["2", "step.retrying"], ["3", "task.cancelled"]]
