"""A call over real HTTP ends when its task is to stop, and at its deadline, whatever the server does."""
from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llm import errors
from llm.tests.calls import KEY, Watcher, ask, call, load
from llm.tests.openai_server import Answer, OpenAIServer, drip, hang, raw, text

MODEL = "openai/gpt-4o-mini"
SOON = 0.6  # seconds from the wish to stop until the call has ended
BIG = raw(200, {"padding": "x" * 50_000_000})
STUBBORN = {
    "never answers": hang(),
    "drips its body": drip(text("late")),
    "drips its headers": drip(text("late"), start="headers"),
    "drips 50 MB": drip(BIG, seconds=0.5),
}
stubborn = pytest.mark.parametrize("answer", STUBBORN.values(), ids=STUBBORN)


@contextmanager
def stopped_after(watcher: Watcher, seconds: float) -> Iterator[list[float]]:
    """Have the task stop that many seconds from now; the list holds when it did."""
    at: list[float] = []

    def stop() -> None:
        at.append(time.monotonic())
        watcher.stop = True

    timer = threading.Timer(seconds, stop)
    timer.start()
    yield at
    timer.join()


def given_up(seconds: float = 0.5) -> tuple[errors.ModelError, float]:
    """Stop a call that is under way; its error, and the seconds from the wish to its end."""
    watcher = Watcher()
    with stopped_after(watcher, seconds) as at, pytest.raises(errors.ModelError) as caught:
        ask(call(MODEL), watcher)
    return caught.value, time.monotonic() - at[0]


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    load()


@stubborn
def test_a_call_under_way_is_given_up_when_the_task_is_to_stop(serve, answer: Answer):
    server = serve(answer)

    failure, took = given_up()

    assert type(failure) is errors.Abandoned
    assert took < SOON
    assert len(server.requests) == 1
    (attempt,) = failure.attempts
    assert "may bill" in (attempt.error or "")
    assert failure.usage.tokens == 0


@stubborn
def test_a_call_under_way_ends_at_its_deadline(serve, settings, answer: Answer):
    settings.LLM_MAX_ATTEMPTS = 1
    serve(answer)
    started = time.monotonic()

    with pytest.raises(errors.ModelTimeout):
        ask(call(MODEL, call_timeout_seconds=0.7))

    assert 0.7 <= time.monotonic() - started < 0.7 + SOON


def test_a_server_that_reads_nothing_cannot_hold_a_call_that_is_being_sent(point):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        point("openai", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        watcher = Watcher()
        big = call(MODEL, provider_options={"extra_body": {"padding": "x" * 30_000_000}})
        with stopped_after(watcher, 1.0) as at, pytest.raises(errors.Abandoned):
            ask(big, watcher)
        assert time.monotonic() - at[0] < SOON


def test_a_server_that_accepts_no_connection_cannot_hold_a_call(point):
    """Given a listener whose queue is full, connecting neither succeeds nor fails."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        point("openai", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

        failure, took = given_up()

    assert type(failure) is errors.Abandoned
    assert "before it was sent" in str(failure)
    assert took < SOON


def test_a_call_through_an_sdks_client_is_given_up_too(monkeypatch):
    """Given azure/…, whose client LiteLLM makes itself and keeps for all threads."""
    with OpenAIServer([text("hello"), hang()]) as server:
        for name, value in (("KEY", KEY), ("BASE", server.url), ("VERSION", "2024-06-01")):
            monkeypatch.setenv(f"AZURE_API_{name}", value)
        asked = call("azure/gpt-4o-mini")
        assert ask(asked).text == "hello"
        watcher = Watcher()
        with stopped_after(watcher, 0.5) as at, pytest.raises(errors.Abandoned):
            ask(asked, watcher)
        assert time.monotonic() - at[0] < SOON
    assert {request.connection for request in server.requests} == {1}


def test_a_task_that_is_to_stop_sends_nothing(serve):
    server = serve(text("ok"))

    with pytest.raises(errors.Abandoned, match="before it was sent"):
        ask(call(MODEL), Watcher(stop=True))

    assert server.requests == []


def test_the_connection_of_a_call_given_up_is_closed_and_the_next_call_has_another(serve):
    server = serve(hang(), text("ok"))

    given_up()
    reply = ask(call(MODEL))

    assert reply.text == "ok"
    assert [request.connection for request in server.requests] == [1, 2]
    _until(lambda: server.connected == 1)


def test_calls_of_one_thread_still_share_a_connection(serve):
    server = serve(text("ok"))

    for _ in range(3):
        ask(call(MODEL))

    assert {request.connection for request in server.requests} == {1}


def test_an_attempt_that_was_given_up_leaves_the_ones_before_it_told(serve):
    server = serve(text("busy", usage=None), hang())
    server.answers = [raw(500, {"error": {"message": "broken"}}), hang()]

    failure, _ = given_up(seconds=1.5)

    assert type(failure) is errors.Abandoned
    first, second = failure.attempts
    assert "broken" in (first.error or "")
    assert "given up" in (second.error or "")


def test_thirty_calls_that_hang_end_together_without_a_thread_or_connection_left(serve):
    server = serve(hang())
    before = set(threading.enumerate())
    watcher = Watcher()
    ended: list[type] = []

    def one() -> None:
        try:
            ask(call(MODEL), watcher)
        except errors.ModelError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    _until(lambda: len(server.requests) == 30)
    watcher.stop = True
    at = time.monotonic()
    for thread in threads:
        thread.join(10)

    assert time.monotonic() - at < 2
    assert ended == [errors.Abandoned] * 30
    assert {thread for thread in set(threading.enumerate()) - before if thread in threads} == set()
    _until(lambda: server.connected == 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(path.with_name(f"{path.name}.crt").read_text())
    return str(path)


@pytest.fixture
def trusting(certificate: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    return certificate


def in_a_fresh_thread(act):
    """The client of a thread reads its trust and its proxies when it is made."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(act())
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return got[0]


def test_tls_works_and_a_call_over_it_is_given_up_too(point, trusting):
    with OpenAIServer([text("safe"), text("again"), hang()], certificate=trusting) as server:
        point("openai", server.base_url)
        answers, failure = in_a_fresh_thread(
            lambda: ([ask(call(MODEL)).text, ask(call(MODEL)).text], given_up())
        )

    assert server.base_url.startswith("https://")
    assert answers == ["safe", "again"]
    assert type(failure[0]) is errors.Abandoned
    assert failure[1] < SOON
    assert {request.connection for request in server.requests} == {1}


def test_a_tls_handshake_that_never_comes_is_given_up(point):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        point("openai", f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
        failure, took = in_a_fresh_thread(given_up)
    assert type(failure) is errors.Abandoned
    assert took < SOON


def test_a_server_of_an_unknown_issuer_is_refused(point, certificate, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    with OpenAIServer([text("trust me")], certificate=certificate) as server:
        point("openai", server.base_url)
        failure = in_a_fresh_thread(lambda: ask(call(MODEL)))
    assert type(failure) is errors.ConnectionFailed
    assert server.requests == []


@pytest.mark.parametrize("hangs", [False, True])
def test_a_proxy_from_the_environment_is_used_and_can_hang(point, monkeypatch, hangs: bool):
    with OpenAIServer([hang() if hangs else text("by proxy")]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        point("openai", "http://models.invalid/v1")
        got = in_a_fresh_thread(given_up if hangs else lambda: ask(call(MODEL)).text)
    assert [request.path for request in proxy.requests] == ["http://models.invalid/v1/chat/completions"]
    if hangs:
        assert type(got[0]) is errors.Abandoned
        assert got[1] < SOON
    else:
        assert got == "by proxy"


def _until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
