"""`manage.py rotate_credentials`: seal every stored key anew with the newest of CREDENTIAL_KEYS."""
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from llm import sealing
from llm.models import Provider


class Command(BaseCommand):
    help = "Encrypt stored provider keys with the newest of CREDENTIAL_KEYS, so that the older ones can go."

    def handle(self, *args: Any, **options: Any) -> None:
        rows = list(Provider.objects.exclude(key_sealed="").order_by("label").values_list("pk", "label"))
        outcomes = {label: rotate(pk) for pk, label in rows}
        lost = [label for label, outcome in outcomes.items() if outcome is None]
        done = sum(1 for outcome in outcomes.values() if outcome)
        self.stdout.write(f"{done} of {len(rows)} keys sealed anew, {len(rows) - done - len(lost)} were already")
        if lost:
            raise CommandError(
                f"not readable with CREDENTIAL_KEYS: {', '.join(lost)}. Put the key that sealed them back at the end "
                "and run this again, or replace their keys."
            )


@transaction.atomic
def rotate(pk: int) -> bool | None:
    """Whether the row's key had to be sealed anew; None when it cannot be read. Locks the row: a key that is replaced
    meanwhile is not overwritten."""
    row = Provider.objects.select_for_update().filter(pk=pk).exclude(key_sealed="").first()
    if row is None:
        return False
    try:
        sealed = sealing.reseal(row.key_sealed)
    except sealing.Unreadable:
        return None
    if sealed == row.key_sealed:
        return False
    Provider.objects.filter(pk=pk).update(key_sealed=sealed)
    return True
