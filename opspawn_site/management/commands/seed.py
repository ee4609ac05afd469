"""`manage.py seed`: the default agent, for a fleet that `up` does not start, such as one in containers."""
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from opspawn_site.fleet import seeding


class Command(BaseCommand):
    help = "Make the default agent, unless there is one of that name."

    def handle(self, *args: Any, **options: Any) -> None:
        seeding.default_agent()
