"""What a provider answers, plain and streamed, in the protocol of each: the same reply comes out of both."""
from __future__ import annotations

import pytest

from llm.messages import Message, ToolRequest
from llm.tests.calls import ADD, ask, call

TWO = (("add_numbers", {"a": 5, "b": 3}), ("add_numbers", {"a": 1, "b": 2.5}))
plain_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])


def answer(wire, streamed, text="", calls=(), **more):
    """Text is streamed in words."""
    if not streamed:
        return wire.plain(text, calls, **more)
    return wire.streamed([f"{word} " for word in text.split()] if text else [], calls, **more)


@plain_and_streamed
def test_a_text_comes_with_its_tokens_and_cost(wire, answering, streamed):
    answering(answer(wire, streamed, "It is 8."))
    heard: list[str] | None = [] if streamed else None

    reply = ask(call(wire.model), heard=heard)

    assert reply.text.strip() == "It is 8."
    assert (reply.finish_reason, reply.tool_requests, reply.model) == ("stop", (), wire.model)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (11, 7)
    assert (reply.usage.cost_usd is None) == (wire.provider == "openrouter")
    assert heard is None or ("".join(heard) == reply.text and len(heard) == 3)


@plain_and_streamed
def test_parallel_tool_calls_come_in_order_with_their_arguments(wire, answering, streamed):
    answering(answer(wire, streamed, "Adding.", TWO, finish="tool_calls"))

    reply = ask(call(wire.model, tools=(ADD,)), heard=[] if streamed else None)

    assert [(made.name, made.arguments) for made in reply.tool_requests] == [(name, given) for name, given in TWO]
    assert len({made.id for made in reply.tool_requests}) == 2
    assert (reply.finish_reason, reply.text.strip()) == ("tool_calls", "Adding.")


@plain_and_streamed
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_why_it_ended_is_told(wire, answering, streamed, finish):
    server = answering(answer(wire, streamed, "so far", finish=finish))

    reply = ask(call(wire.model), heard=[] if streamed else None)

    assert reply.finish_reason == finish
    assert len(server.requests) == 1


@plain_and_streamed
def test_what_the_cache_read_is_counted_and_cheaper(wire, answering, streamed):
    counts = [{"usage": (1000, 10)}, {"usage": (1000, 10), "cached": 600}]
    answering(*(answer(wire, streamed, "ok", **count) for count in counts))
    first, second = (ask(call(wire.model), heard=[] if streamed else None).usage for _ in range(2))

    assert (second.input_tokens, second.cached_tokens, second.output_tokens) == (1000, 600, 10)
    assert first.cached_tokens == 0
    if wire.provider != "openrouter":  # which is not in the price map
        assert second.cost_usd < first.cost_usd


@plain_and_streamed
def test_an_empty_answer_is_an_answer(wire, answering, streamed):
    answering(answer(wire, streamed))

    reply = ask(call(wire.model), heard=[] if streamed else None)

    assert (reply.text, reply.finish_reason) == ("", "stop")


@plain_and_streamed
def test_a_conversation_with_tools_is_one_that_the_provider_takes(wire, answering, streamed):
    """The servers refuse what breaks their provider's rules: turns, pairs of calls and results, required fields."""
    server = answering(answer(wire, streamed, "13"))
    requests = (ToolRequest("c1", "add_numbers", {"a": 5, "b": 3}), ToolRequest("c2", "add_numbers", {"a": 2, "b": 3}))

    reply = ask(
        call(
            wire.model,
            Message("system", "Be brief."),
            Message("user", "add twice"),
            Message("assistant", "Both.", requests),
            Message("tool", '{"sum": 8}', tool_call_id="c1"),
            Message("tool", '{"sum": 5}', tool_call_id="c2"),
            Message("assistant", "", (ToolRequest("c3", "add_numbers", None, "cut short", '{"a'),)),
            Message("tool", "the arguments were cut short", tool_call_id="c3"),
            Message("user", "Go on."),
            tools=(ADD,),
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=100,
            stop=("END",),
        ),
        heard=[] if streamed else None,
    )

    assert reply.text.strip() == "13"
    sent = str(server.requests[0].body)
    assert all(words in sent for words in ("Be brief.", "add twice", "Both.", "cut short", "Go on.", "END", "0.9"))


def test_a_server_that_knows_no_streaming_answers_all_the_same(wire, answering):
    answering(wire.plain("whole"))
    heard: list[str] = []

    reply = ask(call(wire.model), heard=heard)

    assert reply.text == "whole"
    assert reply.usage.output_tokens == 7


def test_many_small_pieces_make_one_answer(wire, answering):
    pieces = [f"{number:03d}é" for number in range(1000)]
    answering(wire.streamed(pieces))
    heard: list[str] = []

    assert ask(call(wire.model), heard=heard).text == "".join(pieces)
    assert heard == pieces


def test_streamed_calls_of_one_thread_share_a_connection(wire, answering):
    server = answering(wire.streamed(["ok"]))

    for _ in range(3):
        ask(call(wire.model), heard=[])

    assert {request.connection for request in server.requests} == {1}
