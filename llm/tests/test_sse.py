"""Server-sent events that hold next to nothing."""
from __future__ import annotations

import itertools

import httpx
import pytest

from llm import sse


def test_lines_end_with_lf_or_crlf_however_they_are_cut():
    body = b": alive\r\n\r\nevent: a\r\ndata: one\r\ndata:two\r\n\r\ndata: three\n\n\ndata: four"

    for size in (1, 2, 7, 1000):
        cut = [body[at : at + size] for at in range(0, len(body), size)]
        assert list(sse.events(cut)) == [None, "one\ntwo", "three", "four"]


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"data:\n", b"data:\n\n", b":\n", b"x\n", b"data: {}\n\n"])
def test_an_endless_stream_of_next_to_nothing_is_given_up(line):
    endless = itertools.repeat(line * 10_000)

    with pytest.raises(httpx.DecodingError, match="over 1000000 lines"):
        for _ in sse.events(endless):
            pass


def test_a_stream_of_as_many_lines_as_there_may_be_is_read():
    told = sse.events([b"data: a\n\n" * 499_999, b"data: b\n"])  # and the empty line that a last line feed begins

    assert sum(1 for _ in told) == 500_000
