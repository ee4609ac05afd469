"""The fleet's own commands, parsed before Django starts so that they can prepare its environment."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module

from opspawn_site.environment import SettingError, load_dotenv
from opspawn_site.fleet.errors import FleetError, NoFleet
from opspawn_site.fleet.folder import REPOSITORY, DataFolder


def run(arguments: list[str]) -> int:
    """Run a fleet command; what a person can put right is one line on standard error and exit code 1."""
    try:
        load_dotenv(REPOSITORY / ".env")
        if arguments[0] == "test":  # everything after it belongs to pytest, --help too
            return test(arguments[1:])
        options = parser().parse_args(arguments)
        return COMMANDS[arguments[0]](options)
    except (FleetError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="opspawn")
    commands = top.add_subparsers(dest="command", required=True)
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--data-dir", metavar="D", help="the fleet's data folder (default: .opspawn in the repository)")
    for add in (_demo, _up, _doctor, _submit, _apikey, _prune, _chaos):
        add(commands, folder)
    return top


def _demo(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("demo", parents=[folder], help="start everything and follow one agent task")
    command.add_argument("--once", action="store_true", help="exit when the task ends: 0 if it completed, 1 if not")
    command.add_argument("--model", metavar="M", help="ask this model instead of the scripted one")
    command.add_argument("--json", action="store_true", help="JSON lines")
    command.add_argument("--reset", action="store_true", help="remove all data of the data folder first")


def _up(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("up", parents=[folder], help="start everything and keep it running")
    command.add_argument("--port", type=_port, metavar="P", help="of the API and the admin (default: from 8000 up)")
    command.add_argument("--grpc-port", type=_port, metavar="G", help="taken for later: there is no gRPC yet")
    command.add_argument("--flower-port", type=_port, metavar="F", help="of Flower (default: from 5555 up)")
    command.add_argument("--workers", type=_workers, default=1, metavar="N", help="worker processes (default: 1)")
    command.add_argument("--json", action="store_true", help="print one JSON line when ready")


def _doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("doctor", parents=[folder], help="check this installation and its fleet")
    command.add_argument("--deep", action="store_true", help="also ask a worker on each queue")


def _submit(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("submit", parents=[folder], help="submit a task to the running fleet")
    command.add_argument("agent", metavar="AGENT", help="slug, or slug@version")
    command.add_argument("prompt")
    command.add_argument("--follow", action="store_true", help="show its steps and exit when it ends")


def _apikey(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("apikey", parents=[folder], help="make an API key and print it once")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--scope", action="append", metavar="S", help="may be repeated (default: submit and read)")


def _chaos(commands: argparse._SubParsersAction[argparse.ArgumentParser], _: argparse.ArgumentParser) -> None:
    command = commands.add_parser("chaos", help="prove on services of its own that nothing is lost under faults")
    command.add_argument("--minutes", type=_minutes, metavar="M", help="of faults (default: one for 200 tasks)")
    command.add_argument("--seed", type=int, default=1, metavar="S", help="of tasks and faults (default: 1)")
    command.add_argument("--tasks", type=_tasks, default=200, metavar="N", help="to submit (default: 200)")
    command.add_argument("--json", action="store_true", help="one JSON line at the end; progress on standard error")


def _prune(commands: argparse._SubParsersAction[argparse.ArgumentParser], folder: argparse.ArgumentParser) -> None:
    command = commands.add_parser("prune", parents=[folder], help="remove tasks that outlived `retention_days`")
    command.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 1 to 65535")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers: use 1 to 64")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.1 <= minutes <= 1440:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes: use 0.1 to 1440")
    return minutes


def _tasks(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tasks: use 1 to 100000")
    return int(text)


def up(options: argparse.Namespace) -> int:
    from opspawn_site.fleet import start
    from opspawn_site.fleet.progress import progress

    shown = progress(options.json)
    if options.grpc_port:
        shown.note(f"--grpc-port {options.grpc_port} has no effect: there is no gRPC yet")
    asked = start.Options(DataFolder(options.data_dir), options.port, options.flower_port, options.workers)
    return start.up(asked, shown)


def demo(options: argparse.Namespace) -> int:
    from opspawn_site.fleet import demo

    return demo.run(DataFolder(options.data_dir), demo.Wish(options.once, options.model, options.json, options.reset))


def doctor(options: argparse.Namespace) -> int:
    from opspawn_site.fleet import doctor

    return doctor.run(DataFolder(options.data_dir), deep=options.deep)


def submit(options: argparse.Namespace) -> int:
    from opspawn_site.fleet.follow import submit

    folder = DataFolder(options.data_dir)
    line = folder.running()
    if line is None:
        raise NoFleet(folder.path)
    return submit(line, options.agent, options.prompt, follow=options.follow)


def apikey(options: argparse.Namespace) -> int:
    reach_database(DataFolder(options.data_dir))
    from django.db import DatabaseError

    from tasks import keys
    from tasks.models import DEFAULT_SCOPES

    try:
        key, token = keys.issue(options.name, options.scope or DEFAULT_SCOPES)
    except ValueError as error:
        raise FleetError(f"--scope: {error}") from None
    except DatabaseError as error:
        raise FleetError(f"the key was not made: {' '.join(str(error).split())}") from None
    print(f"{key.name}: API key no. {key.pk}, shown this once", file=sys.stderr)  # standard output is the token alone
    print(token)
    return 0


def chaos(options: argparse.Namespace) -> int:
    from opspawn_site.chaos import run
    from opspawn_site.chaos.trial import Wish

    minutes = options.minutes or max(1.0, options.tasks / 200)
    return run.run(Wish(minutes, options.seed, options.tasks, options.json))


def prune(options: argparse.Namespace) -> int:
    from opspawn_site.fleet import prune

    reach_database(DataFolder(options.data_dir))
    return prune.run(dry_run=options.dry_run)


def reach_database(folder: DataFolder) -> None:
    """Set Django up on the running fleet's database, or on the one that DATABASE_URL names. Raises FleetError."""
    from opspawn_site.fleet.backing import adopt, database_problem, join

    if line := folder.running():
        join(folder, line)
    elif not adopt(folder):
        raise NoFleet(folder.path)
    if problem := database_problem(os.environ["DATABASE_URL"]):
        raise FleetError(problem)
    import django

    django.setup()


def test(arguments: list[str]) -> int:
    """Become pytest, in the repository's root; opspawn_site/testing.py starts what the tests need."""
    os.chdir(REPOSITORY)
    os.environ["OPSPAWN_DOTENV"] = "off"
    import_module("opspawn_site.settings")  # a wrong one is said here in a line, not in pytest's traceback
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])  # noqa: S606


Command = Callable[[argparse.Namespace], int]
COMMANDS: dict[str, Command] = {
    "demo": demo, "up": up, "doctor": doctor, "submit": submit, "apikey": apikey, "chaos": chaos,
    "prune": prune,
}  # fmt: skip
NAMES = (*COMMANDS, "test")
