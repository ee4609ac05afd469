"""What `doctor` says of the planners and tools that installed packages add."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from opspawn_site.fleet.doctor import Check


def look() -> Iterator[Check]:
    """Loads them as a worker would; a check for each that cannot be used, and one for the rest."""
    from agents import planners, plugins
    from agents.tools.registry import REGISTRY

    REGISTRY.names()
    for name in planners.names():
        with suppress(planners.UnusablePlanner):  # it is among the refused
            planners.class_of(name)
    problems = dict(plugins.refused())
    for added, reason in problems.items():
        cure = f"repair or uninstall {added.package.split(' ')[0]}, and restart the fleet"
        yield Check("plugins", " ".join(f"{added} is not used: {reason}".split()), cure)
    used = [added for group in (plugins.PLANNERS, plugins.TOOLS) for added in plugins.found(group)
            if added not in problems]  # fmt: skip
    if used or not problems:
        words = ", ".join(f"{added.group.removeprefix('opspawn.')} {added.name} of {added.package}" for added in used)
        yield Check("plugins", words or "no installed package adds planners or tools")
