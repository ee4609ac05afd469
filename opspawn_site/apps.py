"""The wiring: what starts with the site, after every other app."""
from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SiteConfig(AppConfig):
    name = "opspawn_site"
    verbose_name = "Opspawn"

    def ready(self) -> None:
        from opspawn_site import audit, groups

        audit.watch()
        post_migrate.connect(groups.seed, sender=self, dispatch_uid="seed_groups")
