"""Texts into vectors, over OpenAI's wire and by the local embedder."""
from __future__ import annotations

import importlib.util
import math
from decimal import Decimal

import pytest

from llm.embeddings import BATCH_BYTES, BATCH_TEXTS, batches, embed
from llm.errors import BadRequest, Malformed, MissingKey, ModelError, ModelTimeout, NoEmbedder, UnknownModel
from llm.tests.calls import KEY
from llm.tests.openai_server import Answer, Request, error, hang, raw, text

MODEL = "openai/text-embedding-3-small"
INSTALLED = importlib.util.find_spec("wordllama") is not None


def vectors(*listed: tuple[int, list[float]], tokens: int = 5) -> Answer:
    """As OpenAI answers: https://platform.openai.com/docs/api-reference/embeddings"""
    data = [{"object": "embedding", "index": index, "embedding": numbers} for index, numbers in listed]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return raw(200, {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage})


def lengths(request: Request) -> Answer:
    """A vector for each text that tells its length."""
    return vectors(*((place, [float(len(one)), 0.0]) for place, one in enumerate(request.body["input"])))


def test_texts_become_unit_vectors_in_their_order(serve):
    server = serve(vectors((1, [0.0, 2.0]), (0, [3.0, 4.0])))

    done = embed(["first", "second"], MODEL)

    assert done.vectors == ((0.6, 0.8), (0.0, 1.0))
    assert (done.dimension, done.model) == (2, MODEL)
    assert (done.usage.input_tokens, done.usage.cost_usd) == (5, Decimal("0.0000001000"))
    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["input"] == ["first", "second"]
    assert request.body["model"] == "text-embedding-3-small"


def test_nothing_is_asked_about_nothing(serve):
    server = serve(vectors((0, [1.0])))
    assert embed([], MODEL).vectors == ()
    assert server.requests == []


def test_many_texts_go_in_batches_and_their_tokens_add_up(serve):
    server = serve()
    server.answers = lengths

    done = embed(["x" * (1 + place % 7) for place in range(BATCH_TEXTS * 2 + 1)], MODEL)

    assert [len(request.body["input"]) for request in server.requests] == [BATCH_TEXTS, BATCH_TEXTS, 1]
    assert len(done.vectors) == BATCH_TEXTS * 2 + 1
    assert done.usage.input_tokens == 15


def test_a_batch_holds_so_many_bytes_and_a_longer_text_goes_alone():
    half, long = "é" * (BATCH_BYTES // 4), "x" * (BATCH_BYTES + 1)
    assert [len(batch) for batch in batches([half, half, half, long, "a"])] == [2, 1, 1, 1]
    assert [one for batch in batches([half, "b", long]) for one in batch] == [half, "b", long]


@pytest.mark.parametrize("failure", [error(429, retry_after="0.01"), error(500), raw(200, "<html>")])
def test_what_may_pass_is_tried_again(serve, failure):
    server = serve(failure, vectors((0, [1.0, 0.0])))
    assert embed(["a"], MODEL).vectors == ((1.0, 0.0),)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("failure", "code"), [
    (error(401, f"Incorrect key {KEY}"), "provider_auth"), (error(404), "invalid_agent_config"),
    (error(400), "provider_error"),
])  # fmt: skip
def test_what_does_not_pass_is_not_and_says_no_key(serve, failure, code):
    server = serve(failure)
    with pytest.raises(ModelError) as raised:
        embed(["a"], MODEL)
    assert raised.value.code == code
    assert KEY not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [
    vectors((0, [1.0])), vectors((0, [1.0]), (0, [1.0])), vectors((0, [1.0]), (2, [1.0])),
    vectors((0, [1.0]), (1, [])), vectors((0, [1.0]), (1, [1.0, 2.0])), text("no embedding"), raw(200, "[]"),
    raw(200, '{"object":"list","data":[{"index":0,"embedding":[1e999]},{"index":1,"embedding":[1]}],"model":"m"}'),
])  # fmt: skip
def test_an_answer_that_is_not_one_vector_a_text_is_malformed(serve, answer, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    serve(answer)
    with pytest.raises(Malformed):
        embed(["a", "b"], MODEL)


def test_a_server_that_never_answers_is_given_up_at_the_deadline(serve):
    serve(hang())
    with pytest.raises(ModelTimeout):
        embed(["a"], MODEL, seconds_left=0.3)


def test_a_text_without_words_is_refused_by_its_place(serve):
    server = serve(vectors((0, [1.0])))
    with pytest.raises(BadRequest, match="text 1 of 3 is empty"):
        embed(["a", " \n", "b"], MODEL)
    assert server.requests == []


def test_a_missing_key_and_a_provider_that_does_not_exist_are_named_before_any_request(settings):
    settings.PROVIDER_KEYS = dict.fromkeys(settings.PROVIDER_KEYS, "")
    with pytest.raises(MissingKey, match="OPENAI_API_KEY"):
        embed(["a"], MODEL)
    with pytest.raises(UnknownModel, match="opnai"):
        embed(["a"], "opnai/x")


def test_a_server_of_ones_own_embeds_without_a_known_price(serve, settings):
    server = serve()
    server.answers = lengths
    assert embed(["abc"], "openai/my-own").usage.cost_usd is None
    assert len(server.requests) == 1


@pytest.mark.skipif(INSTALLED, reason="wordllama is installed")
def test_without_the_package_the_local_embedder_says_what_to_install():
    with pytest.raises(NoEmbedder, match="wordllama"):
        embed(["a"])


@pytest.mark.skipif(not INSTALLED, reason="wordllama is not installed")
def test_the_local_embedder_finds_what_means_the_same_without_a_network():
    done = embed(["The cat sat on the mat.", "A kitten is on the rug.", "Interest rates rose again.", "\u200b"])

    assert (done.model, done.dimension, done.usage.cost_usd) == ("local/wordllama", 256, Decimal(0))
    assert [round(math.hypot(*vector), 6) for vector in done.vectors[:3]] == [1.0, 1.0, 1.0]
    near, far = (sum(a * b for a, b in zip(done.vectors[0], other, strict=True)) for other in done.vectors[1:3])
    assert near > far + 0.1


@pytest.mark.skipif(not INSTALLED, reason="wordllama is not installed")
def test_the_local_embedder_takes_huge_and_odd_texts():
    done = embed(["word " * 300_000, "\ud800 lone", "\0", "漢字" * 10])
    assert {len(vector) for vector in done.vectors} == {256}
    assert all(math.isfinite(number) for vector in done.vectors for number in vector)
