"""A task as it goes, on a terminal or as JSON lines: each step with its tokens, cost, seconds and summary."""
from __future__ import annotations

import json
from typing import Any

from opspawn_site.fleet.progress import write_line

MARKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "denied": ("✗", "red"), "unknown": ("?", "yellow")}
KINDS = {"llm": "model", "tool": "tool"}
NOTES = {
    "task.recovered": "another worker takes over",
    "step.retrying": "the provider failed; trying again",
    "task.cancelling": "asked to stop",
    "task.resumed": "goes on",
}


class Transcript:
    """For people. Colours and the width of the screen are used when there is one."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._said = ""
        self._ticker: Any = None

    def submitted(self, task: dict[str, Any], prompt: str) -> None:
        agent = f"{task['agent']['slug']}@{task['agent']['version']}"
        self._line(("\nTask ", "dim"), (task["task_id"], "bold"), (f"  agent {agent}", "dim"))
        self._line(("“" + " ".join(prompt.split()) + "”\n", "italic"))

    def step(self, step: dict[str, Any]) -> None:
        """`✓ 2 tool   calculator    36 …` with what it took at the end of the line."""
        mark, colour = MARKS.get(step["status"], ("·", "dim"))
        label = step["model"] or step["name"] if step["kind"] == "llm" else step["name"]
        text = " ".join((step["error"] or step["summary"] or "").split())
        took = f"{step['seconds'] or 0:6.2f} s"
        spent = f"{tokens(step['usage'])}  {money(step['usage'])}" if step["kind"] == "llm" else ""
        self._line(
            (f"  {mark} ", colour),
            (f"{step['seq']:>2} ", "dim"),
            (f"{KINDS.get(step['kind'], step['kind']):<5} ", "magenta" if step["kind"] == "llm" else "cyan"),
            (f"{label[:22]:<22} ", "bold"),
            (f"{_cut(text, self._room()):<{self._room()}} ", ""),
            (f"{took}  ", "dim"),
            (spent, "dim"),
            ("  simulated" if step["simulated"] else "", "yellow"),
        )

    def text(self, delta: dict[str, Any]) -> None:
        """The end of what the model has said so far, on a line that gives way to what comes next."""
        if not self._console.is_terminal:
            return
        self._said = self._said[: delta["offset"]] + delta["text"]
        shown = "".join(letter for letter in " ".join(self._said.split()) if letter.isprintable())
        from rich.text import Text

        line = Text(_end(shown, max(20, self._console.width - 8)), "dim italic")
        if self._ticker is None:
            self._ticker = self._console.status(line)
            self._ticker.start()
        self._ticker.update(line)

    def event(self, event: dict[str, Any]) -> None:
        if event["type"] == "task.waiting":
            self._line((f"  … waits for {event['data'].get('waiting_on', 'something')}", "yellow"))
        elif event["type"] in NOTES:
            self._line((f"  … {NOTES[event['type']]}", "yellow"))

    def ended(self, task: dict[str, Any], seconds: float, simulated: bool) -> None:
        done = task["status"] == "completed"
        usage = f"{tokens(task['usage'])} · {money(task['usage'])}" + (" (simulated)" if simulated else "")
        self._line(
            (f"\n  {'✓' if done else '✗'} {task['status']}", "bold green" if done else "bold red"),
            (f"  {seconds:.1f} s · {task['steps']} step{'s' * (task['steps'] != 1)} · {usage}\n", "dim"),
        )
        text = answer_of(task) if done else f"{task['error_code']}: {task['error_message']}"
        for line in text.splitlines():
            self._line(("  " + line, "bold" if done else "red"))

    def links(self, found: dict[str, str]) -> None:
        self._line(("", ""))
        for name, value in found.items():
            self._line((f"  {name:<14} ", "dim"), (value, ""))

    def closing(self, text: str) -> None:
        self._line((f"\n  {text}", "dim"))

    def _room(self) -> int:
        """For a step's summary: what the other columns leave of the screen, and at least 20 characters."""
        width = self._console.width if self._console.is_terminal else 120
        return max(20, min(width - 80, 60))

    def _line(self, *pieces: tuple[str, str]) -> None:
        from rich.text import Text

        if self._ticker is not None:
            self._ticker.stop()
            self._said, self._ticker = "", None
        self._console.print(Text.assemble(*pieces), soft_wrap=True)


class JsonTranscript(Transcript):
    """For programs: one object a line."""

    def __init__(self) -> None:
        pass

    def submitted(self, task: dict[str, Any], prompt: str) -> None:
        self._event("task", task=task)

    def step(self, step: dict[str, Any]) -> None:
        self._event("step", **step)

    def text(self, delta: dict[str, Any]) -> None:
        pass

    def event(self, event: dict[str, Any]) -> None:
        self._event("task_event", task_event=event)

    def ended(self, task: dict[str, Any], seconds: float, simulated: bool) -> None:
        self._event("ended", task=task, seconds=round(seconds, 3), simulated=simulated)

    def links(self, found: dict[str, str]) -> None:
        self._event("links", links=found)

    def closing(self, text: str) -> None:
        pass

    def _event(self, event: str, **more: Any) -> None:
        write_line(json.dumps({"event": event, **more}))


def transcript(as_json: bool) -> Transcript:
    return JsonTranscript() if as_json else Transcript()


def tokens(usage: dict[str, Any]) -> str:
    return f"{usage['input_tokens']:,} → {usage['output_tokens']:,} tokens"


def money(usage: dict[str, Any]) -> str:
    """`$0.0012`; a price that nobody knows is not shown as nothing."""
    return "price unknown" if usage["cost_usd"] is None else f"${usage['cost_usd']}"


def answer_of(task: dict[str, Any]) -> str:
    outcome = (task["result"] or {}).get("agent_outcome")
    return outcome if isinstance(outcome, str) else json.dumps(outcome, indent=2)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _end(text: str, room: int) -> str:
    return text if len(text) <= room else "…" + text[1 - room :]
