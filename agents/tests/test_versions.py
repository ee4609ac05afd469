"""Agents are created, changed and rolled back; every change is a version, and nothing is lost between two at once."""
from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection

from agents import versions
from agents.config import LIMITS
from agents.errors import (
    AgentError,
    ConfigInvalid,
    SlugTaken,
    StaleVersion,
    UnknownAgent,
    UnknownVersion,
)
from agents.models import Agent, AgentVersion

CONFIG = {"model": "scripted/echo", "temperature": 1, "limits": {"max_steps": 5, "max_tokens": 100}}

NUMBERS = [name for name in LIMITS if name != "on_budget"]


@pytest.fixture
def helper(db) -> Agent:
    return versions.create("helper", CONFIG, description="Helps.", by="key:test")


def config_of(agent: Agent) -> dict:
    return agent.versions.get(version=agent.version).config


def pointers(caught) -> list[str]:
    return [problem.pointer for problem in caught.value.problems]


def test_a_new_agent_has_its_configuration_as_version_1(helper):
    version = helper.versions.get()

    assert (helper.version, helper.description, helper.archived) == (1, "Helps.", False)
    assert (version.version, version.config, version.created_by, version.rollback_of) == (1, CONFIG, "key:test", None)
    assert helper.created_at is not None


def test_a_slug_is_taken_once(helper):
    with pytest.raises(SlugTaken, match="'helper'"):
        versions.create("helper", {}, by="x")
    assert AgentVersion.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("about", "where"),
    [
        ({"slug": "Upper"}, ["/slug"]),
        ({"slug": ""}, ["/slug"]),
        ({"slug": "x" * 65}, ["/slug"]),
        ({"slug": "a\n"}, ["/slug"]),
        ({"slug": None}, ["/slug"]),
        ({"config": None}, ["/config"]),
        ({"config": {"nope": 1, "temperature": 9}}, ["/config/nope", "/config/temperature"]),
        ({"description": "x" * 4001}, ["/description"]),
        ({"description": None}, ["/description"]),
        ({"description": "\0"}, ["/description"]),
        ({"note": "x" * 501}, ["/note"]),
        ({"note": "\ud800"}, ["/note"]),
        ({"slug": "!", "config": [], "note": 5}, ["/slug", "/config", "/note"]),
    ],
)
def test_a_wrong_agent_is_refused_with_every_pointer_and_leaves_nothing(about, where):
    with pytest.raises(ConfigInvalid) as caught:
        versions.create(**{"slug": "helper", "config": {}, "by": "x"} | about)

    assert pointers(caught) == where
    assert Agent.objects.count() == 0


def test_a_merge_patch_publishes_a_version_and_leaves_the_old_one(helper):
    patch = {"config": {"temperature": None, "seed": 4, "limits": {"max_tokens": None, "max_steps": 6}}}

    changed = versions.change("helper", patch, note="calmer", by="key:other")

    version = changed.versions.get(version=2)
    assert changed.version == 2
    assert version.config == {"model": "scripted/echo", "seed": 4, "limits": {"max_steps": 6}}
    assert (version.note, version.created_by, version.rollback_of) == ("calmer", "key:other", None)
    assert changed.versions.get(version=1).config == CONFIG
    assert changed.updated_at > helper.updated_at


@pytest.mark.parametrize(("patch", "field", "value"), [({"description": "Other."}, "description", "Other."),
                                                       ({"description": ""}, "description", ""),
                                                       ({"archived": True}, "archived", True)])  # fmt: skip
def test_description_and_archived_publish_a_version_too(helper, patch, field, value):
    changed = versions.change("helper", patch, by="x")

    assert (changed.version, getattr(changed, field), config_of(changed)) == (2, value, CONFIG)


@pytest.mark.parametrize(
    "patch",
    [{}, {"config": {}}, {"config": CONFIG}, {"config": {"seed": None}}, {"description": "Helps.", "archived": False}],
)
def test_a_change_of_nothing_makes_no_version(helper, patch):
    same = versions.change("helper", patch, note="nothing", by="x")

    assert same.version == 1
    assert same.versions.count() == 1
    assert same.updated_at == helper.updated_at


def test_1_and_true_are_not_the_same(helper):
    versions.change("helper", {"config": {"provider_options": {"a": 1}}}, by="x")

    assert config_of(versions.change("helper", {"config": {"provider_options": {"a": True}}}, by="x")) == {
        **CONFIG, "provider_options": {"a": True},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "where"),
    [
        (None, [""]),
        ([], [""]),
        ({"slug": "other"}, ["/slug"]),
        ({"version": 7, "archived": "yes"}, ["/version", "/archived"]),
        ({"archived": None}, ["/archived"]),
        ({"config": None}, ["/config"]),
        ({"config": {"limits": {"max_steps": 0}}}, ["/config/limits/max_steps"]),
        ({"config": {"limits": 5}}, ["/config/limits"]),
        ({"config": {"instructions": "\0"}}, ["/config/instructions"]),
    ],
)
def test_a_wrong_patch_is_refused_with_its_pointers_and_changes_nothing(helper, patch, where):
    with pytest.raises(ConfigInvalid) as caught:
        versions.change("helper", patch, by="x")

    assert pointers(caught) == where
    assert Agent.objects.get().version == 1


@pytest.mark.parametrize("if_match", [1, None])
def test_a_change_of_the_version_that_was_read_goes_through(helper, if_match):
    assert versions.change("helper", {"archived": True}, by="x", if_match=if_match).version == 2


@pytest.mark.parametrize("if_match", [0, 2, -1])
def test_a_change_of_another_version_than_was_read_is_stale(helper, if_match):
    with pytest.raises(StaleVersion, match=f"is at version 1, not {if_match}"):
        versions.change("helper", {"archived": True}, by="x", if_match=if_match)
    with pytest.raises(StaleVersion):
        versions.rollback("helper", 1, by="x", if_match=if_match)
    assert helper.versions.count() == 1


@pytest.mark.django_db
def test_an_unknown_agent_is_named():
    for slug in ("nobody", "a\0", "\ud800", None):
        with pytest.raises(UnknownAgent, match=re.escape(repr(slug))):
            versions.change(slug, {}, by="x")
    with pytest.raises(UnknownAgent, match="'nobody'"):
        versions.rollback("nobody", 1, by="x")


def test_a_rollback_publishes_an_earlier_configuration_as_a_new_version(helper):
    versions.change("helper", {"config": {"temperature": 0}, "description": "Newer."}, by="x")

    back = versions.rollback("helper", 1, note="undo", by="key:test")

    version = back.versions.get(version=3)
    assert (back.version, back.description) == (3, "Newer.")
    assert (version.config, version.rollback_of, version.note) == (CONFIG, 1, "undo")


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_a_rollback_to_a_version_that_never_was_is_refused(helper, version):
    with pytest.raises(UnknownVersion, match="it has 1 to 1"):
        versions.rollback("helper", version, by="x")


@pytest.mark.parametrize("version", [True, "1", 1.0, None])
def test_a_version_is_a_whole_number(helper, version):
    with pytest.raises(ConfigInvalid) as caught:
        versions.rollback("helper", version, by="x")
    assert pointers(caught) == ["/version"]


def test_a_rollback_to_what_is_no_longer_valid_names_the_place(helper):
    AgentVersion.objects.create(agent=helper, version=2, config={"tools": ["gone"]}, created_by="x")
    Agent.objects.update(version=2)

    with pytest.raises(ConfigInvalid) as caught:
        versions.rollback("helper", 2, by="x")
    assert pointers(caught) == ["/config/tools/0"]


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_merges_as_rfc_7396_says(target, patch, result):
    assert versions.merged(target, patch) == result


def at_once(*works: Callable[[], object]) -> list[object]:
    """What each work returned or raised, all started together in threads of their own."""
    together = threading.Barrier(len(works))
    ends: list[object] = [None] * len(works)

    def run(n: int) -> None:
        together.wait(10)
        try:
            ends[n] = works[n]()
        except AgentError as error:
            ends[n] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return ends


@pytest.mark.django_db(transaction=True)
def test_changes_at_once_are_all_kept():
    versions.create("helper", CONFIG, by="x")

    at_once(*[partial(versions.change, "helper", {"config": {"limits": {key: 3}}}, by="x") for key in NUMBERS])

    agent = Agent.objects.get()
    assert agent.version == 1 + len(NUMBERS)
    assert config_of(agent)["limits"] == dict.fromkeys(NUMBERS, 3)
    assert sorted(agent.versions.values_list("version", flat=True)) == list(range(1, agent.version + 1))


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_of_the_same_version_at_once_one_is_stale():
    versions.create("helper", CONFIG, by="x")

    ends = at_once(
        *[partial(versions.change, "helper", {"config": {"seed": n}}, by="x", if_match=1) for n in range(2)]
    )

    assert sorted(type(end).__name__ for end in ends) == ["Agent", "StaleVersion"]
    assert Agent.objects.get().version == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_agents_of_the_same_name_at_once_one_is_refused():
    ends = at_once(*[lambda: versions.create("helper", CONFIG, by="x")] * 2)

    assert sorted(type(end).__name__ for end in ends) == ["Agent", "SlugTaken"]
    assert (Agent.objects.count(), AgentVersion.objects.count()) == (1, 1)
