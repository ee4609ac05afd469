"""Server-sent events as model providers send them: https://html.spec.whatwg.org/multipage/server-sent-events.html

Only `data` matters here; what kind of event it is stands in the data too. Linear in the bytes, however they are cut.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx

MOST_LINES = 1_000_000  # events of models take over 35 bytes a line: more than an answer may have anyhow


def events(chunks: Iterable[bytes]) -> Iterator[str | None]:
    """The data of each event as it is complete, and None for each comment: a sign of life without an event.

    Lines end with LF or CRLF. An event without a blank line after it counts when the stream ends. Raises
    httpx.DecodingError after MOST_LINES lines: bytes alone do not bound the work of lines that hold next to nothing.
    """
    data: list[bytes] = []
    for number, line in enumerate(_lines(chunks)):
        if number >= MOST_LINES:
            raise httpx.DecodingError(f"the answer is over {MOST_LINES} lines")
        if not line:
            if data:
                yield _text(data)
                data = []
        elif line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b":"):
            yield None
    if data:
        yield _text(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    begun: list[bytes] = []
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        begun.append(first)
        if rest:
            yield b"".join(begun).rstrip(b"\r")
            for line in rest[:-1]:
                yield line.rstrip(b"\r")
            begun = [rest[-1]]
    yield b"".join(begun).rstrip(b"\r")


def _text(data: list[bytes]) -> str:
    return b"\n".join(data).decode("utf-8", "replace").strip()
