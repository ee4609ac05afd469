"""What a person, or the next program, sees while a fleet starts and runs."""
from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import IO, Any


class Progress:
    """Plain lines, for logs and pipes; also what the other two build on. Times are seconds since the start."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._since = time.monotonic()

    def starting(self, *parts: str) -> None:
        self._line(f"starting {', '.join(parts)}")

    def started(self, part: str, detail: str = "") -> None:
        self._line(f"{part} is ready after {self.seconds:.1f} s{f' ({detail})' if detail else ''}")

    def died(self, part: str, reason: str, wait_seconds: float) -> None:
        self._line(f"{part} died ({reason}); starting it again in {wait_seconds:g} s")

    def restarted(self, part: str, pid: int) -> None:
        self._line(f"{part} runs again (pid {pid})")

    def note(self, text: str) -> None:
        self._line(text)

    def stopping(self) -> None:
        self._line("stopping")

    def stopped(self) -> None:
        self._line("stopped; nothing is left running")

    def failed(self, message: str, tail: Sequence[str]) -> None:
        for line in tail:
            print(f"  | {line}", file=sys.stderr)
        print(f"error: {message}", file=sys.stderr, flush=True)

    def ready(self, line: dict[str, Any]) -> None:
        self._line(f"ready after {self.seconds:.1f} s")
        for name, value in addresses(line).items():
            self._line(f"  {name:<9} {value}")

    def pause(self) -> None:
        """Keep the last line of the screen free for somebody else."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    def _line(self, text: str) -> None:
        write_line(text, self._stream)


class Lively(Progress):
    """A terminal: a spinner with what is still starting, a tick for what is ready."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__()
        self._console = Console(highlight=False)
        self._status: Any = None
        self._waiting: list[str] = []

    def starting(self, *parts: str) -> None:
        self._waiting.extend(parts)
        self._spin()

    def started(self, part: str, detail: str = "") -> None:
        self._waiting = [other for other in self._waiting if other != part]
        shown = f"  [dim]{detail}[/dim]" if detail else ""
        self._line(f"[green]✓[/green] {part:<12} [dim]{self.seconds:5.1f} s[/dim]{shown}")
        self._spin()

    def note(self, text: str) -> None:
        from rich.markup import escape

        self._line(escape(text))

    def died(self, part: str, reason: str, wait_seconds: float) -> None:
        from rich.markup import escape

        self._line(f"[red]✗ {part} died[/red] ({escape(reason)}); starting it again in {wait_seconds:g} s")

    def restarted(self, part: str, pid: int) -> None:
        self._line(f"[green]✓ {part} runs again[/green] (pid {pid})")

    def stopping(self) -> None:
        self.pause()
        self._line("[dim]stopping …[/dim]")

    def failed(self, message: str, tail: Sequence[str]) -> None:
        self.pause()
        super().failed(message, tail)

    def ready(self, line: dict[str, Any]) -> None:
        self.pause()
        self._line(f"\n[bold green]Opspawn is ready[/bold green] after {self.seconds:.1f} s\n")
        for name, value in addresses(line).items():
            self._line(f"  [dim]{name:<9}[/dim] {value}")
        self._line("\n  [dim]Ctrl-C ends everything.[/dim]")

    def pause(self) -> None:
        self._waiting = []
        self._spin()

    def _spin(self) -> None:
        if self._status is not None and not self._waiting:
            self._status.stop()
            self._status = None
        elif self._waiting:
            text = f"starting {', '.join(self._waiting)}"
            if self._status is None:
                self._status = self._console.status(text)
                self._status.start()
            self._status.update(text)

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class Machine(Progress):
    """JSON lines. Standard output carries what was asked for (`ready` and a task's own lines), the rest goes to
    standard error, so that the first line on standard output of `up --json` is the ready line."""

    def starting(self, *parts: str) -> None:
        for part in parts:
            self._event("starting", part=part)

    def started(self, part: str, detail: str = "") -> None:
        self._event("started", part=part, seconds=round(self.seconds, 3))

    def died(self, part: str, reason: str, wait_seconds: float) -> None:
        self._event("died", part=part, reason=reason, restart_in_seconds=wait_seconds)

    def restarted(self, part: str, pid: int) -> None:
        self._event("restarted", part=part, pid=pid)

    def note(self, text: str) -> None:
        self._event("note", text=text)

    def stopping(self) -> None:
        self._event("stopping")

    def stopped(self) -> None:
        self._event("stopped")

    def failed(self, message: str, tail: Sequence[str]) -> None:
        self._event("failed", message=message, log=list(tail))

    def ready(self, line: dict[str, Any]) -> None:
        write_line(json.dumps(line), self._stream)

    def _event(self, event: str, **more: Any) -> None:
        write_line(json.dumps({"event": event, **more}), sys.stderr)


def progress(as_json: bool) -> Progress:
    if as_json:
        return Machine()
    return Lively() if sys.stdout.isatty() else Progress()


def addresses(line: dict[str, Any]) -> dict[str, str]:
    """The ready line as a person wants it: name and address."""
    admin, flower = line["admin"], line["flower"]
    password = admin["password"] or "as you set it"
    return {
        "API": line["api"] + "/",
        "API docs": line["api"].removesuffix("/v1") + "/docs/",
        "API key": line["api_key"],
        "Admin": f"{admin['url']}  ({admin['username']} / {password})",
        "Flower": f"{flower['url']}  ({flower['username']} / {flower['password']})",
        "Data": line["data_dir"],
    }


def write_line(text: str, stream: IO[str] | None = None) -> None:
    with contextlib.suppress(BrokenPipeError, ValueError):  # nobody reads any more: the fleet goes on
        print(text, file=stream or sys.stdout, flush=True)
