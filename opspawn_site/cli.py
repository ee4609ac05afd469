"""The fleet's own commands."""
COMMANDS: dict[str, object] = {}


def run(arguments: list[str]) -> int:
    raise NotImplementedError
