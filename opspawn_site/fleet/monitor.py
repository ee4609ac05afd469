"""The Celery application that Flower looks through: the broker's address and names, and no Django.

Flower learns everything else from the workers. Without the site's modules it starts in half the time and memory.
"""
from __future__ import annotations

from celery import Celery

from opspawn_site import settings, telemetry

telemetry.configure(settings.LOGGING)
app = Celery("opspawn", fixups=[])  # Celery's own fixup would set Django up
app.config_from_object(settings, namespace="CELERY")
app.conf.update(result_backend="disabled://")  # results are in the admin
