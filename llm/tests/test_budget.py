"""The arithmetic of budgets, offers by price and bytes, what a process remembers of prices and budgets."""
from __future__ import annotations

import doctest
from collections.abc import Iterator
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from django.db import connection

from llm import budget, in_force, offers, prices, tokens
from llm.budget import DEFAULT_OUTPUT_TOKENS, Line, Offer, Unpriced
from llm.in_force import InForce
from llm.messages import Message, ModelSettings, ToolSpec
from llm.models import Budget, Price

MINI = ModelSettings("openai/gpt-4o-mini")
HELLO = (Message("user", "hello"),)
TOOL = ToolSpec("add", "Adds.", {"type": "object"})


@pytest.fixture(autouse=True)
def no_own_prices() -> Iterator[None]:
    yield
    prices.override({})


@pytest.mark.parametrize("module", [budget])
def test_the_worked_numbers_are_right(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 5
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("left", ["0", "0.05", "0.0639999999", "0.064", "0.0640000001", "0.1", "0.5", "1", "99"])
def test_a_clipped_call_never_costs_more_than_what_is_left(left: str) -> None:
    offer = Offer(Decimal("0.0000000007"), Decimal("0.001"), 500)
    clipped = offer.clipped(Decimal(left))
    if clipped is None:
        assert offer.least_usd > Decimal(left)
    else:
        assert 64 <= clipped <= 500
        assert offer.cost_usd(clipped) <= Decimal(left)
        assert clipped == 500 or offer.cost_usd(clipped + 1) > Decimal(left)


def test_an_answer_that_is_to_be_short_need_not_have_room_for_a_longer_one() -> None:
    assert Offer(Decimal(0), Decimal("0.001"), 10).clipped(Decimal("0.01")) == 10


def test_a_model_whose_answers_are_free_is_not_clipped() -> None:
    assert Offer(Decimal("0.5"), Decimal(0), 500).clipped(Decimal("0.5")) == 500
    assert Offer(Decimal("0.5"), Decimal(0), 500).clipped(Decimal("0.4")) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (("fleet", "", "month"), "the budget of the fleet for a month"),
        (("api_key", "7", "total"), "the budget of the API key 7 in all"),
        (("task", "task_1", "total"), "the budget of the task task_1"),
        (("task", "task_1", "day"), "the budget of the task task_1 for a day"),
    ],
)
def test_a_budget_is_called_by_whose_it_is(line: tuple[str, str, str], name: str) -> None:
    assert Line(*line, Decimal(1), Decimal(0), Decimal(0)).name == name


def test_what_is_sent_counts_a_token_a_byte_at_most() -> None:
    words = "naïve 東京 " * 40
    assert tokens.most_of_input([Message("user", words)]) > len(words.encode())
    assert tokens.most_of_input(HELLO, [TOOL]) > tokens.most_of_input(HELLO) + tokens.OF_TOOLS
    assert tokens.most_of_input(HELLO, (), {"extra_body": "x" * 1000}) > tokens.most_of_input(HELLO) + 1000
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    seen = Message("user", [{"type": "text", "text": "what is it?"}, image])
    assert tokens.OF_AN_IMAGE < tokens.most_of_input([seen]) < tokens.OF_AN_IMAGE + 200


def test_an_offer_is_the_input_at_its_dearest_and_the_answer_as_long_as_it_may_be() -> None:
    size = tokens.most_of_input(HELLO)
    offer = offers.offer_of(MINI, HELLO, (), 500)
    assert offer == Offer(size * Decimal("0.00000015"), Decimal("0.0000006"), 500)
    claude = offers.offer_of(ModelSettings("anthropic/claude-sonnet-4-6"), HELLO, (), 500)
    assert isinstance(claude, Offer)
    assert claude.input_usd == size * Decimal("0.00000375")  # written to the cache


def test_an_answer_that_nobody_bounds_is_bounded_by_the_map_or_by_default() -> None:
    assert isinstance(offer := offers.offer_of(MINI, HELLO, (), None), Offer)
    assert offer.wanted_tokens == 16_384
    prices.override({"hosted_vllm/mine": prices.FREE})
    assert isinstance(offer := offers.offer_of(ModelSettings("hosted_vllm/mine"), HELLO, (), None), Offer)
    assert (offer.wanted_tokens, offer.most_usd) == (DEFAULT_OUTPUT_TOKENS, 0)


def test_a_model_without_a_price_has_no_offer() -> None:
    assert offers.offer_of(ModelSettings("hosted_vllm/mine"), HELLO, (), 5) == Unpriced("hosted_vllm/mine")


def test_a_script_is_not_sent_and_not_counted() -> None:
    prices.override({"scripted/list": prices.Rates(*[Decimal(1)] * 4)})
    script = {"script": [{"text": "x" * 10_000}]}
    offer = offers.offer_of(ModelSettings("scripted/list", provider_options=script), HELLO, (), 5)
    assert isinstance(offer, Offer)
    assert offer.input_usd < 1000


@pytest.mark.django_db(transaction=True)
def test_prices_and_budgets_are_read_once_a_second(django_assert_num_queries: Any, monkeypatch: Any) -> None:
    known = InForce()
    with django_assert_num_queries(1):
        assert not known.touches([("fleet", "")])
        assert not known.touches([("fleet", "")])
    Budget.objects.create(scope="fleet", period="day", limit_usd=1)
    Budget.objects.create(scope="agent", scope_id="off", period="day", limit_usd=1, enabled=False)
    Price.objects.create(model="hosted_vllm/mine", input_usd=1, output_usd=2)
    monkeypatch.setattr(in_force, "FRESH_SECONDS", 0)
    with django_assert_num_queries(1):
        assert known.touches([("fleet", ""), ("agent", "writer")])
    assert not known.touches([("agent", "off")])
    assert prices.rates_of("hosted_vllm/mine") is not None
    assert connection.connection is None  # handed back
