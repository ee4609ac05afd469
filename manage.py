#!/usr/bin/env python
"""The command line: the fleet's own commands first, Django's for everything else."""
import os
import sys


def main() -> int | None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    from opspawn_site.cli import NAMES, run

    if sys.argv[1:2] and sys.argv[1] in NAMES:
        return run(sys.argv[1:])
    if sys.argv[1:] in (["--version"], ["version"]):
        from opspawn_site import VERSION

        print(VERSION)
        return 0
    return django(sys.argv)


def django(arguments: list[str]) -> int:
    """Django's own commands. Without DATABASE_URL they talk to the fleet that runs in the data folder: the default one,
    or that of `--data-dir D`, which stands before or after the command's own words.
    """
    from opspawn_site.environment import SettingError, load_dotenv
    from opspawn_site.fleet.backing import adopt
    from opspawn_site.fleet.folder import REPOSITORY, DataFolder

    arguments, place = without_data_dir(arguments)
    folder = DataFolder(place)
    try:
        load_dotenv(REPOSITORY / ".env")
        adopt(folder)
        from django.core.management import execute_from_command_line

        execute_from_command_line(arguments)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not without_database(error):
            raise
        print(f"error: {arguments[1]} needs a database, and no fleet runs in {folder.path}: "
              "start one with ./opspawn up, or set DATABASE_URL", file=sys.stderr)  # fmt: skip
        return 1
    return 0


def without_data_dir(arguments: list[str]) -> tuple[list[str], str | None]:
    """The arguments without `--data-dir D` or `--data-dir=D`, and D."""
    for place, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name == "--data-dir" and (equals or place + 1 < len(arguments)):
            after = place + 1 if equals else place + 2
            return arguments[:place] + arguments[after:], value if equals else arguments[place + 1]
    return arguments, None


def without_database(error: Exception) -> bool:
    """Whether a command failed because there is none to talk to, not because one that was named is away."""
    from django.db import OperationalError

    return isinstance(error, OperationalError) and not os.environ.get("DATABASE_URL")


if __name__ == "__main__":
    sys.exit(main())
