"""`prune`: removes the tasks that their agents' `retention_days` have outlived, and says how far it is."""
from __future__ import annotations

from opspawn_site.fleet.errors import FleetError


def run(*, dry_run: bool) -> int:
    """Print what goes, or would go; exit code 0. Needs django.setup() and a database. Raises FleetError."""
    from django.db import DatabaseError, connection

    try:
        return _would_go() if dry_run else _prune()
    except DatabaseError as error:
        raise FleetError(f"not everything was removed: {' '.join(str(error).split())}; run it again") from None
    finally:
        connection.close()


def _prune() -> int:
    from tasks import removal
    from tasks.why import some

    tasks, keys = removal.prune(lambda line: print(line, flush=True))
    print(f"removed {some(tasks, 'task')} and {some(keys, 'idempotency key')}")
    return 0


def _would_go() -> int:
    from tasks import removal
    from tasks.why import some

    tasks = 0
    for retention, count in removal.would_go():
        tasks += count
        print(f"{retention.slug}: {count:,} would go, older than {retention.days} days")
    keys = removal.keys_to_forget()
    print(f"{some(tasks, 'task')} and {some(keys, 'idempotency key')} would go; nothing was removed")
    return 0
