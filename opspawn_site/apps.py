"""The wiring."""
from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "opspawn_site"
    verbose_name = "Opspawn"
