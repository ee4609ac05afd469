"""The wiring: what starts with the site, after every other app."""
from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class SiteConfig(AppConfig):
    name = "opspawn_site"
    verbose_name = "Opspawn"

    def ready(self) -> None:
        from opspawn_site import audit, groups

        audit.watch()
        # `tasks` is the last app with models: the permissions of all of them exist then.
        post_migrate.connect(groups.seed, sender=apps.get_app_config("tasks"), dispatch_uid="seed_groups")
