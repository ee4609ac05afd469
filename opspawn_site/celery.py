"""The Celery application of the fleet."""
from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")  # they import every view and form; `check` and CI run them

app = Celery("opspawn")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tasks"], related_name="jobs")


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Having a receiver keeps Celery from installing handlers of its own over `opspawn_site.telemetry`."""
