"""Planners and tools of installed packages: there when they are installed, and harmless when they are broken."""
from __future__ import annotations

import sys

import pytest

from agents import config, planners, plugins
from agents.assembly import assemble
from agents.contract import AgentInvalid, Answer
from agents.forms import AgentForm
from agents.tests.plugins import Install, install
from agents.tools.registry import REGISTRY
from llm.messages import ToolRequest

__all__ = ["install"]

PLANNER = """
from agents.contract import Answer, Planner

class Parrot(Planner):
    def decide(self, conversation, reply):
        return Answer(str(conversation[-1].content))
"""
ONE = "[opspawn.planners]\nparrot = parrot_planner:Parrot\n"
TOOL = '''
from agents.tools.registry import tool

@tool(effect="none", timeout_seconds=5, in_worker=True)
def shout(text: str) -> str:
    """Say it in capitals."""
    return text.upper()
'''
TOOLS = "[opspawn.tools]\nshouting = shouting_tools\n"
MODEL = {"model": "scripted/echo"}


def assembled(**more):
    return assemble("helper", MODEL | more, {}, {}, {"prompt": "hello"})


def problems(**more):
    return [(problem.pointer, problem.code, problem.detail) for problem in config.check(MODEL | more)]


def test_an_installed_planner_is_known_by_its_name_and_imported_when_it_is_used(install: Install):
    install("parrots", ONE, parrot_planner=PLANNER)

    assert planners.names() == ["native", "react", "plan_execute", "placeholder", "parrot"]
    assert ("parrot", "parrot") in AgentForm.base_fields["planner"].choices
    assert "parrot_planner" not in sys.modules
    assert problems(planner="parrot") == []
    agent = assembled(planner="parrot")
    assert agent.planner.decide(agent.opening, None) == Answer("hello")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "it cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"),
        ("raise SystemExit(3)", "it cannot be loaded (SystemExit: 3)"),
        ("def x(:", "it cannot be loaded (SyntaxError"), ("Other = 1", "it cannot be loaded (AttributeError"),
        ("class Parrot: pass", "no subclass of agents.contract.Planner"), ("Parrot = 1", "no subclass"),
        ("from agents.contract import Planner\nclass Parrot(Planner): pass", "it has no method decide"),
    ],
)  # fmt: skip
def test_a_broken_planner_is_refused_with_its_package_and_reason_and_logged_once(install, caplog, source, reason):
    install("parrots", ONE, parrot_planner=source)

    ((pointer, code, detail),) = problems(planner="parrot")
    with pytest.raises(AgentInvalid) as caught:
        assembled(planner="parrot")

    assert (pointer, code) == ("/config/planner", "unusable_planner")
    for told in (detail, str(caught.value)):
        assert "opspawn.planners 'parrot' of parrots 1.0 (parrot_planner:Parrot) is not used: " in told
        assert reason in told
    assert len([line for line in caplog.records if "is not used" in line.getMessage()]) == 1
    assert problems() == []


def test_a_planner_whose_making_fails_is_an_invalid_agent(install: Install):
    install("parrots", ONE, parrot_planner=PLANNER + "    def brief(self, output_schema):\n        return 1 / 0\n")

    with pytest.raises(AgentInvalid, match="Parrot cannot be made \\(ZeroDivisionError"):
        assembled(planner="parrot")


def test_a_planner_cannot_take_the_name_of_one_of_the_house(install: Install, caplog):
    install("parrots", "[opspawn.planners]\nnative = parrot_planner:Parrot\n", parrot_planner=PLANNER)

    assert planners.class_of("native") is planners.BUILT_IN["native"]
    assert planners.names() == list(planners.BUILT_IN)
    assert [reason for _, reason in plugins.refused()] == ["the name 'native' is Opspawn's own; give it another one"]
    assert "opspawn.planners 'native' of parrots 1.0" in caplog.text


def test_a_name_that_two_packages_give_is_nobody_s(install: Install):
    install("parrots", ONE, parrot_planner=PLANNER)
    install("macaws", ONE.replace("parrot_planner", "macaw_planner"), macaw_planner=PLANNER)

    ((_, code, detail),) = problems(planner="parrot")

    assert code == "unusable_planner"
    assert "gives the name 'parrot' too; uninstall one of them" in detail
    assert {added.package for added, _ in plugins.refused()} == {"macaws 1.0", "parrots 1.0"}


def test_installed_tools_are_there_at_the_first_look_and_are_called_like_any_other(install: Install):
    install("shouters", TOOLS, shouting_tools=TOOL)

    assert "shout" in [listed.name for listed in REGISTRY.names()]
    assert problems(tools=["shout"]) == []
    assert [tool.name for tool in assembled(tools=["sh*t"]).tools] == ["shout"]
    assert REGISTRY.act(ToolRequest("c", "shout", {"text": "a"}), frozenset({"shout"}), 5).output == "A"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("\nimport no_such_module", "ModuleNotFoundError"), ("\nraise SystemExit", "SystemExit"),
        (TOOL.replace("shout", "calculator"), "A tool called 'calculator' is already registered"),
        (TOOL.replace('"""Say it in capitals."""', "").replace("shout", "other"), "other has no docstring"),
    ],
)  # fmt: skip
def test_a_module_that_fails_adds_none_of_its_tools_and_leaves_the_others(install, caplog, more, reason):
    install("broken", TOOLS.replace("shouting_tools", "broken_tools"), broken_tools=TOOL + more)
    install("whisperers", TOOLS.replace("shouting_tools", "whispers"), whispers=TOOL.replace("shout", "whisper"))

    names = [listed.name for listed in REGISTRY.names()]

    assert "shout" not in names
    assert {"whisper", "calculator"} <= set(names)
    ((added, told),) = plugins.refused()
    assert (added.package, added.group) == ("broken 1.0", "opspawn.tools")
    assert reason in told
    assert "broken 1.0" in caplog.text


def test_a_module_that_looks_at_the_registry_while_it_is_imported_does_not_hang(install: Install):
    install("shouters", TOOLS, shouting_tools=TOOL + "\nfrom agents.tools.registry import names\nassert names()\n")

    assert REGISTRY.matching("shout") == ["shout"]
