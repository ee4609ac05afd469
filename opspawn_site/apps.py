"""The wiring: what starts with the site, after every other app."""
from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig, apps
from django.conf import settings
from django.db.models.signals import post_migrate

from opspawn_site.environment import wrong


class SiteConfig(AppConfig):
    name = "opspawn_site"
    verbose_name = "Opspawn"

    def ready(self) -> None:
        from opspawn_site import audit, groups

        audit.watch()
        # `tasks` is the last app with models: the permissions of all of them exist then.
        post_migrate.connect(groups.seed, sender=apps.get_app_config("tasks"), dispatch_uid="seed_groups")
        import_tools(settings.TOOL_MODULES)


def import_tools(modules: list[str]) -> None:
    """Import modules that register tools of their own. Raises SettingError for one that cannot be imported."""
    for module in modules:
        try:
            import_module(module)
        except Exception as error:
            cure = f"cannot be imported ({type(error).__name__}: {error}); install it, or take it out"
            raise wrong("TOOL_MODULES", module, cure) from error
