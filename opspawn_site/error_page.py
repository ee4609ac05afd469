"""Django's page of an exception, as DEBUG shows it with every local variable: without the secrets in them."""
from __future__ import annotations

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from llm import masking
from opspawn_site.telemetry import shorn


class WithoutSecrets(ExceptionReporter):
    """Masks the whole page: a key may stand in a message, a local variable, a form or a header."""

    def get_traceback_html(self) -> SafeString:
        return SafeString(shorn(masking.mask(super().get_traceback_html())))

    def get_traceback_text(self) -> SafeString:
        return SafeString(shorn(masking.mask(super().get_traceback_text())))
