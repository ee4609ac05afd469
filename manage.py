#!/usr/bin/env python
"""The command line: the fleet's own commands first, Django's for everything else."""
import os
import sys


def main() -> int | None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    from opspawn_site.cli import COMMANDS, run

    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        return run(sys.argv[1:])

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
