"""A worker process that the tests of a module share."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.models import Worker as Row
from tasks.tests.workers import Worker, running_worker


@pytest.fixture(scope="module")
def worker(django_db_setup: Any, django_db_blocker: Any) -> Iterator[Worker]:
    """One worker process for a module; its tests must be transactional."""
    with django_db_blocker.unblock():
        with running_worker() as running:
            yield running
        Row.objects.all().delete()  # it beat after the last test's tables were emptied, and the next counts workers
