"""What the tests of models share: keys of nobody, and providers' addresses set to a local server."""
from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from llm.tests.calls import KEY
from llm.tests.openai_server import OpenAIServer
from llm.tests.wires import WIRES, Wire

Point = Callable[[str, str], None]


@pytest.fixture
def point(settings) -> Point:
    """`point("openai", server.base_url)`: that provider has a key and is reached there, no other has one."""
    settings.PROVIDER_KEYS = dict.fromkeys(settings.PROVIDER_KEYS, "")
    settings.PROVIDER_API_BASES = dict.fromkeys(settings.PROVIDER_API_BASES, "")

    def to(provider: str, address: str) -> None:
        settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, provider: KEY}
        settings.PROVIDER_API_BASES = {**settings.PROVIDER_API_BASES, provider: address}

    return to


@pytest.fixture
def serve(point):
    """`serve(answer, …)`: a local server that openai/… is reached at, closed after the test."""
    opened: list[OpenAIServer] = []

    def start(*answers) -> OpenAIServer:
        server = OpenAIServer(list(answers)).__enter__()
        opened.append(server)
        point("openai", server.base_url)
        return server

    yield start
    for server in opened:
        server.__exit__(None, None, None)


@pytest.fixture(params=WIRES)
def wire(request) -> Wire:
    """Each provider's protocol in turn."""
    return WIRES[request.param]


@pytest.fixture
def answering(wire, point):
    """`answering(answer, …)`: a server of the wire's protocol that its provider is reached at."""
    with contextlib.ExitStack() as opened:

        def start(*answers) -> OpenAIServer:
            server = opened.enter_context(wire.server(list(answers)))
            point(wire.provider, server.base_url)
            return server

        yield start
