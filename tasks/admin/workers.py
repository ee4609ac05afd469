"""Workers in the admin, read-only: which there are, which are silent, which run old code."""
from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from agents.console import ReadOnlyAdmin, line, moment
from tasks.models import Worker
from tasks.why import in_words
from tasks.workers import is_stale, roll_call

STATES = {"live": "success", "draining": "warning", "silent": "danger"}


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Each worker process that was heard of in the last 24 hours."""

    list_display = ("name", "state", "shown_version", "shown_queues", "used", "started", "heard")
    search_fields = ("name", "host")
    sortable_by = ()
    ordering = ("name",)
    fields = (
        "name", "state", "host", "pid", "shown_version", "shown_queues", "slots", "in_flight", "started_at",
        "heartbeat_at",
    )  # fmt: skip
    readonly_fields = fields
    empty_words = "No worker was heard of in the last 24 hours. `./opspawn up` starts one."

    @display(description="State", label=STATES)
    def state(self, worker: Worker) -> str:
        if not worker.live:  # type: ignore[attr-defined]  # of roll_call
            return "silent"
        return "draining" if worker.draining else "live"

    @display(description="Version")
    def shown_version(self, worker: Worker) -> str:
        return line(f"{worker.version} (not the site's)" if is_stale(worker) else worker.version)

    @display(description="Queues")
    def shown_queues(self, worker: Worker) -> str:
        return ", ".join(worker.queues)

    @display(description="Slots in use")
    def used(self, worker: Worker) -> str:
        return line(f"{worker.in_flight} of {worker.slots}")

    @display(description="Started (UTC)")
    def started(self, worker: Worker) -> str:
        return moment(worker.started_at)

    @display(description="Last heartbeat")
    def heard(self, worker: Worker) -> str:
        return line(f"{in_words((timezone.now() - worker.heartbeat_at).total_seconds())} ago")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return roll_call()
