"""The embedder that needs no provider: wordllama, a table of 256 numbers a token whose weights are in its wheel.

https://github.com/dleemiller/WordLlama; imported at the first use, which takes about a second, and only in workers.
"""
from __future__ import annotations

import importlib.util
import pathlib
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from llm.errors import NoEmbedder

MODEL = "local/wordllama"
DIMENSION = 256
MOST_CHARS = 32_000  # of a text; a vector is the mean of its tokens, and each takes a kilobyte meanwhile

_LOADING = threading.Lock()


def embed(texts: Sequence[str]) -> list[list[float]]:
    """DIMENSION numbers a text, not normalised, all zero for a text without any token. Raises NoEmbedder."""
    with _LOADING:
        table = _loaded()
    return [_mean(table, text[:MOST_CHARS]) for text in texts]


def _mean(table: Any, text: str) -> list[float]:
    """One text at a time: a batch would be padded to its longest."""
    if not table.tokenize(text)[0].ids:
        return [0.0] * DIMENSION
    vector: list[float] = table.embed([text])[0].tolist()
    return vector


@cache
def _loaded() -> Any:
    found = importlib.util.find_spec("wordllama")
    if found is None or found.origin is None:
        raise NoEmbedder(
            "the local embedder needs the package wordllama: install requirements.txt, or name another model in "
            "EMBEDDING_MODEL, as openai/text-embedding-3-small"
        )
    import wordllama

    # It looks for its tokenizer in another folder than the one its wheel brings, and would download it.
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "tokenizers").symlink_to(pathlib.Path(found.origin).with_name("tokenizers"))
        return wordllama.WordLlama.load(cache_dir=folder, dim=DIMENSION, disable_download=True)
