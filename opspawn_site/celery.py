"""The Celery application of the fleet."""
from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")  # they import every view and form; `check` and CI run them

app = Celery("opspawn")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tasks"], related_name="jobs")
