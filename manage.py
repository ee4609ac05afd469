#!/usr/bin/env python
"""The command line: the fleet's own commands first, Django's for everything else."""
import os
import sys


def main() -> int | None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    from opspawn_site.cli import NAMES, run

    if sys.argv[1:2] and sys.argv[1] in NAMES:
        return run(sys.argv[1:])
    return django(sys.argv)


def django(arguments: list[str]) -> int:
    """Django's own commands. Without DATABASE_URL they talk to the fleet that runs in the default data folder."""
    from opspawn_site.environment import SettingError, load_dotenv
    from opspawn_site.fleet.backing import adopt
    from opspawn_site.fleet.folder import REPOSITORY, DataFolder

    try:
        load_dotenv(REPOSITORY / ".env")
        adopt(DataFolder())
        from django.core.management import execute_from_command_line

        execute_from_command_line(arguments)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
