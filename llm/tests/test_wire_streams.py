"""Streams that end badly: what was billed is known, what may pass is tried again, and nothing waits for long."""
from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from llm import errors
from llm.folds.anthropic import AnthropicFold
from llm.folds.gemini import GeminiFold
from llm.folds.openai import OpenAIFold
from llm.tests.calls import ADD, Watcher, ask, call, refused
from llm.tests.openai_connection import Answer
from llm.tests.openai_server import chunk, events, raw
from llm.tests.wires import WIRES

SOON = 0.6  # seconds from the wish to stop until the call has ended
SAID = ["Four ", "words ", "were ", "said."]
BEGUN = {"openai": 3, "openrouter": 3, "anthropic": 5, "gemini": 2}
"""Pieces of a stream of it until two words were said."""


def cut(answer: Answer, pieces: int, end: str) -> Answer:
    """The stream's first so many pieces, and then that end."""
    return replace(answer, pieces=answer.pieces[:pieces], end=end)


@pytest.fixture
def once(settings):
    settings.LLM_MAX_ATTEMPTS = 1


def is_billed(failure: errors.ModelError, wire) -> bool:
    """With the input, and at least the text that had come, and its price where there is one."""
    priced = failure.usage.cost_usd is None if wire.provider == "openrouter" else failure.usage.cost_usd > 0
    return failure.usage.input_tokens > 0 and failure.usage.output_tokens >= 2 and priced


@pytest.mark.parametrize("end", ["whole", "breaks"])
def test_a_stream_without_its_end_is_malformed_with_what_it_cost(wire, answering, once, end):
    answering(cut(wire.streamed(SAID), BEGUN[wire.provider], end))
    heard: list[str] = []

    failure = refused(call(wire.model), heard=heard)

    assert type(failure) is errors.Malformed
    assert "broke off" in str(failure)
    assert is_billed(failure, wire)
    assert "".join(heard).startswith("Four words")


def test_a_stream_that_broke_off_is_tried_again_and_both_are_counted(wire, answering, settings):
    settings.LLM_MAX_ATTEMPTS = 2
    whole = wire.streamed(SAID, usage=(11, 7))
    server = answering(cut(whole, BEGUN[wire.provider], "breaks"), whole)
    heard: list[str] = []

    reply = ask(call(wire.model), heard=heard)

    assert reply.text == "".join(SAID)
    assert "".join(heard).endswith(reply.text)
    assert [attempt.error is None for attempt in reply.attempts] == [False, True]
    assert reply.usage.output_tokens > 7
    assert len(server.requests) == 2


def test_a_stream_that_stalls_is_a_timeout_long_before_the_calls(wire, answering, once, settings):
    settings.LLM_STALL_SECONDS = 0.5
    answering(cut(wire.streamed(SAID), BEGUN[wire.provider], "stalls"))
    started = time.monotonic()

    failure = refused(call(wire.model, call_timeout_seconds=30), heard=[])

    assert type(failure) is errors.ModelTimeout
    assert "nothing came for 0.5 s" in str(failure)
    assert time.monotonic() - started < 10
    assert is_billed(failure, wire)


def test_the_stall_is_never_longer_than_the_call(wire, answering, once):
    answering(cut(wire.streamed(SAID), BEGUN[wire.provider], "stalls"))
    started = time.monotonic()

    failure = refused(call(wire.model, call_timeout_seconds=0.5), heard=[])

    assert type(failure) is errors.ModelTimeout
    assert time.monotonic() - started < 10


def test_a_cancel_closes_the_stream_and_keeps_what_it_cost(wire, answering):
    server = answering(cut(wire.streamed(SAID), BEGUN[wire.provider], "stalls"))
    watcher, heard, ended = Watcher(), [], []

    def one() -> None:
        ended.append((refused(call(wire.model), watcher, heard), time.monotonic()))

    thread = threading.Thread(target=one)
    thread.start()
    _until(lambda: "".join(heard).startswith("Four words"))
    watcher.stop, asked = True, time.monotonic()
    thread.join(10)

    failure, at = ended[0]
    assert type(failure) is errors.Abandoned
    assert at - asked < SOON
    assert is_billed(failure, wire)
    assert "tokens of what had come are counted" in str(failure)
    _until(lambda: server.connected == 0)


def test_tokens_that_the_provider_told_before_the_cut_are_taken_over_an_estimate(point, once):
    wire = WIRES["anthropic"]
    with wire.server([cut(wire.streamed(["x" * 400], usage=(5000, 900), cached=4000), 4, "breaks")]) as server:
        point("anthropic", server.base_url)
        failure = refused(call(wire.model), heard=[])

    assert (failure.usage.input_tokens, failure.usage.cached_tokens) == (5000, 4000)
    assert failure.usage.output_tokens == 100  # told was 1, before the text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.AuthRefused),
        (429, errors.RateLimited),
        (500, errors.ServerFailed),
        (529, errors.ServerFailed),
    ],
)
def test_an_error_in_the_middle_is_what_it_says(wire, answering, once, status, kind):
    whole = wire.streamed(SAID)
    failing = events(wire.failing(status, "so it says")).pieces
    answering(replace(whole, pieces=(*whole.pieces[: BEGUN[wire.provider]], *failing)))

    failure = refused(call(wire.model), heard=[])

    assert type(failure) is kind
    assert "so it says" in str(failure)
    assert is_billed(failure, wire)


@pytest.mark.parametrize("garbage", ["{nonsense", "[1, 2]", '"text"', "null", '{"choices": [null], "candidates": [1]}'])
def test_garbage_in_the_middle_is_malformed(wire, answering, once, garbage):
    whole = wire.streamed(SAID)
    pieces = (*whole.pieces[: BEGUN[wire.provider]], f"data: {garbage}\n\n".encode())
    answering(replace(whole, pieces=pieces))

    failure = refused(call(wire.model), heard=[])

    assert type(failure) is errors.Malformed
    assert is_billed(failure, wire)


@pytest.mark.parametrize("text", [5, ["x"], {"x": 1}, True], ids=repr)
def test_a_text_that_is_no_string_is_malformed_and_tried_again(wire, answering, settings, text):
    settings.LLM_MAX_ATTEMPTS = 2
    whole = wire.streamed(SAID)
    pieces = list(whole.pieces)
    at = BEGUN[wire.provider] - 1
    pieces[at] = pieces[at].replace(b'"words "', json.dumps(text).encode())
    assert pieces != list(whole.pieces)
    answering(replace(whole, pieces=tuple(pieces)), whole)

    reply = ask(call(wire.model), heard=[])

    assert reply.text == "".join(SAID)
    first, _ = reply.attempts
    assert "cannot be read" in first.error
    assert reply.usage.input_tokens > 11  # with what the first was asked


@pytest.mark.parametrize("text", [5, ["x"], {"x": 1}, True], ids=repr)
def test_a_plain_text_that_is_no_string_is_malformed(wire, answering, once, text):
    whole = wire.plain("all of it")
    answering(replace(whole, body=whole.body.replace(b'"all of it"', json.dumps(text).encode())))

    assert type(refused(call(wire.model))) is errors.Malformed


@pytest.mark.parametrize("body", ["", ": only a comment\n\n", "data: [DONE]\n\n"])
def test_a_stream_of_nothing_is_malformed(wire, answering, once, body):
    answering(raw(200, body, content_type="text/event-stream"))

    failure = refused(call(wire.model), heard=[])

    assert type(failure) is errors.Malformed
    assert failure.usage.tokens == 0


def test_a_stream_that_ends_without_done_but_with_a_finish_is_whole(serve):
    serve(events(chunk({"content": "whole"}), chunk({}, "stop")))

    assert ask(call("openai/gpt-4o-mini"), heard=[]).text == "whole"


def test_a_server_that_keeps_the_connection_after_the_end_is_not_waited_for(wire, answering):
    answering(replace(wire.streamed(SAID), end="stalls"))
    if wire.provider == "gemini":
        pytest.skip("Gemini ends by closing")
    started = time.monotonic()

    assert ask(call(wire.model), heard=[]).text == "".join(SAID)
    assert time.monotonic() - started < 10


def test_calls_without_indexes_and_with_whole_arguments_are_kept_apart(serve):
    """Given a server that gives every call the index 0, as some OpenAI-compatible ones do."""
    serve(
        events(
            chunk({"tool_calls": [_part("a", '{"a": 1}', index=0)]}),
            chunk({"tool_calls": [_part("b", '{"a": 2}', index=0)]}),
            chunk({}, "tool_calls"),
            "[DONE]",
        )
    )

    reply = ask(call("openai/gpt-4o-mini", tools=(ADD,)), heard=[])

    assert [(made.id, made.arguments) for made in reply.tool_requests] == [("a", {"a": 1}), ("b", {"a": 2})]


def _part(call_id: str, arguments: str, **more):
    return {"id": call_id, "type": "function", "function": {"name": "add_numbers", "arguments": arguments}, **more}


def test_arguments_cut_short_by_the_length_are_told(wire, answering):
    if wire.provider == "gemini":
        pytest.skip("Gemini sends a call whole")
    whole = wire.streamed([], [("add_numbers", {"a": 5, "b": 3})], finish="length")
    last = 5 if wire.provider == "anthropic" else 4
    answering(replace(whole, pieces=(*whole.pieces[:last], *whole.pieces[-3:])))

    reply = ask(call(wire.model, tools=(ADD,)), heard=[])

    assert reply.tool_requests[0].arguments is None
    assert "cut short" in reply.tool_requests[0].error
    assert reply.finish_reason == "length"


def test_a_refusal_of_openais_is_a_filtered_answer(serve):
    serve(events(chunk({"refusal": "I cannot "}), chunk({"refusal": "help."}), chunk({}, "stop"), "[DONE]"))

    reply = ask(call("openai/gpt-4o-mini"), heard=[])

    assert (reply.text, reply.finish_reason) == ("", "content_filter")


def test_a_megabyte_in_pieces_of_four_letters_takes_time_in_proportion(serve):
    def cpu_of(count: int) -> float:
        serve(raw(200, _letters(count), content_type="text/event-stream"))
        began = time.thread_time()
        reply = ask(call("openai/gpt-4o-mini"), heard=[])
        assert len(reply.text) == 4 * count
        return time.thread_time() - began

    cpu_of(100)
    small, large = cpu_of(25_000), cpu_of(250_000)

    assert large < 30 * small  # ten times the pieces; a hundred times the work if it were quadratic


def _letters(count: int) -> bytes:
    piece = b'data: {"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"four"}}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    return piece * count + end


def test_what_a_cut_call_cost_is_priced_by_the_map(serve, once):
    serve(events(chunk({"content": "x" * 400}), end="breaks"))

    usage = refused(call("openai/gpt-4o-mini"), heard=[]).usage

    assert usage.output_tokens == 100
    assert usage.cost_usd == (usage.input_tokens * Decimal("0.15") + 100 * Decimal("0.6")) / 1_000_000


@pytest.mark.parametrize("most", [100, 99])
def test_a_cut_answer_is_never_estimated_above_what_it_may_have(wire, answering, once, most):
    """Given 100,000 tokens before the cut, and 99 or 100 allowed: what a server sends is no measure of its bill."""
    answering(cut(wire.streamed(["x" * 400_000, "more"]), BEGUN[wire.provider], "breaks"))

    assert refused(call(wire.model, max_output_tokens=most), heard=[]).usage.output_tokens == most


def test_a_whole_answer_that_nobody_counted_is_never_estimated_above_what_it_may_have(serve):
    serve(events(chunk({"content": "x" * 4000}), chunk({}, "stop"), "[DONE]"))

    assert ask(call("openai/gpt-4o-mini", max_output_tokens=100), heard=[]).usage.output_tokens == 100
    assert ask(call("openai/gpt-4o-mini"), heard=[]).usage.output_tokens == 1000


def test_what_the_provider_told_of_a_cut_answer_stays_told(serve, once):
    told = {"prompt_tokens": 50, "completion_tokens": 900, "total_tokens": 950}
    serve(events(chunk({"content": "x" * 40_000}, usage=told), end="breaks"))

    usage = refused(call("openai/gpt-4o-mini", max_output_tokens=100), heard=[]).usage

    assert (usage.input_tokens, usage.output_tokens) == (50, 900)


@pytest.mark.parametrize(
    ("pieces", "heard"),
    [
        (["a\ud83d", "\ude00b", "c"], ["a", "😀b", "c"]),
        (["\ud83d", "\ude00"], ["😀"]),
        (["a\ud83d\ude00", "b"], ["a😀", "b"]),
        (["\ud83d", "\ud83d", "\ude00"], ["�", "😀"]),
        (["a\ud83d", "b"], ["a", "�b"]),
        (["a", "\ude00b"], ["a", "�b"]),
        (["a\ud83d"], ["a", "�"]),
    ],
)
def test_a_character_cut_in_two_is_one_again(wire, answering, pieces, heard):
    answering(wire.streamed(pieces))
    told: list[str] = []

    reply = ask(call(wire.model), heard=told)

    assert reply.text == "".join(heard)
    assert told == heard


@pytest.mark.parametrize("fold", [OpenAIFold, AnthropicFold, GeminiFold])
def test_events_that_each_name_something_new_take_time_in_proportion(fold):
    def cpu_of(count: int) -> float:
        folded = fold()
        folded.feed('{"type": "message_start", "message": {"usage": {"input_tokens": 5}}}')
        began = time.thread_time()
        for number in range(count):
            folded.feed(f'{{"type": "message_delta", "usage": {{"u{number}": 1}}, "delta": {{"d{number}": 1}}, '
                        f'"candidates": [{{"c{number}": 1}}], "e{number}": 1}}')  # fmt: skip
        return time.thread_time() - began

    cpu_of(100)
    small, large = cpu_of(1000), cpu_of(40_000)

    assert large < 200 * small  # forty times the events; over a thousand times the work if it were quadratic


def _until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
