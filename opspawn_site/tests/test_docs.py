"""The pages against the code: settings, statuses, scopes and commands are the same, links lead somewhere."""
from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

from opspawn_site.cli import NAMES
from opspawn_site.tests.declared import ROOT, declared
from tasks.models import DEFAULT_SCOPES, SCOPES
from tasks.states import FINAL, MOVES, ErrorCode, EventType, Status, StepKind, StepStatus, WaitingOn

REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def rows(page: pathlib.Path, head: str) -> Iterator[list[str]]:
    """The cells of the tables whose header row starts with that word."""
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == head:
            inside = True
        elif inside and not set(cells[0]) <= {"-", " "}:
            yield cells


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_settings_page_says_what_the_code_reads() -> None:
    page = {
        words(name)[0]: (kind, "".join(words(default)), bounds)
        for name, kind, default, bounds, _, _ in rows(REFERENCE / "settings.md", "name")
    }
    code = {name: (one.type, one.default, one.bounds) for name, one in declared().items()}
    assert page == code


def test_the_settings_page_explains_every_setting_and_gives_an_example() -> None:
    for name, _, _, _, meaning, example in rows(REFERENCE / "settings.md", "name"):
        assert len(meaning) > 10, name
        assert words(example), name


def test_the_statuses_page_has_every_status_and_every_move() -> None:
    page = {words(status)[0]: set(words(moves)) for status, _, moves in rows(REFERENCE / "statuses.md", "status")
            if words(status)[0] in Status.values}  # fmt: skip
    text = (REFERENCE / "statuses.md").read_text(encoding="utf-8")
    assert page == {status.value: {to.value for to in MOVES[status]} for status in Status}
    assert all(f"| `{status.value}` | final" in text for status in FINAL)


def test_the_statuses_page_has_every_reason_to_wait_or_fail() -> None:
    page = REFERENCE / "statuses.md"
    assert [words(cells[0])[0] for cells in rows(page, "value")] == WaitingOn.values
    assert [words(cells[0])[0] for cells in rows(page, "code")] == ErrorCode.values


def test_the_statuses_page_has_the_words_of_steps_and_events() -> None:
    page = REFERENCE / "statuses.md"
    text = page.read_text(encoding="utf-8")
    assert [words(cells[0])[0] for cells in rows(page, "kind")] == StepKind.values
    assert all(f"| `{status}` |" in text for status in StepStatus.values)
    named = set(re.findall(r"`([a-z]+\.[a-z]+)`", text))
    assert named <= set(EventType.values)
    assert named == events_that_are_written()


def events_that_are_written() -> set[str]:
    """Every `EventType.NAME` in the sources of tasks/, but for where the names are declared."""
    sources = [path for path in (ROOT / "tasks").glob("*.py") if path.name not in ("states.py", "models.py")]
    names = {name for path in sources for name in re.findall(r"EventType\.([A-Z_]+)", path.read_text(encoding="utf-8"))}
    return {EventType[name].value for name in names}


def test_the_api_page_has_every_scope() -> None:
    assert [words(cells[0])[0] for cells in rows(REFERENCE / "api.md", "scope")] == list(SCOPES)
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    assert "A new key has `tasks:write`, `tasks:read` and `agents:read`" in text
    assert DEFAULT_SCOPES == ("tasks:write", "tasks:read", "agents:read")


def test_the_commands_page_has_every_command_of_the_fleet() -> None:
    page = {words(cells[0])[0].split()[0] for cells in rows(REFERENCE / "commands.md", "command")}
    assert page == set(NAMES)


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} → {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not target.startswith(("http://", "https://", "#"))
        and not (page.parent / target.split("#")[0]).exists()
    ]  # fmt: skip
    assert not broken


def test_decisions_are_numbered_without_gaps_and_say_context_choice_and_cost() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Cost")), path.name
