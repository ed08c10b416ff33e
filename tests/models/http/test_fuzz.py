"""A small share of `python -m bench.fuzz` and of libFuzzer's work, at random and shrunk by Hypothesis."""

from __future__ import annotations

import json
import random
from random import Random

import pytest
from bench.fuzz import MODELS, check_broken, check_odd
from bench.odd_streams import READERS
from hypothesis import given, settings
from hypothesis import strategies as st

from desist.exceptions import ModelError
from desist.testing import read_recorded_stream


@pytest.mark.parametrize("seed", range(4))
def test_odd_streams(seed: int) -> None:
    """Text, reasoning and calls come out of a stream as they went in, however odd the server is."""
    for number in range(500):
        check_odd(Random(seed * 1000 + number))


@given(st.randoms(use_true_random=False))
@settings(deadline=None)
def test_odd_streams_of_hypothesis(source: random.Random) -> None:
    """The same with the choices of Hypothesis, which finds the smallest stream that is read wrongly."""
    check_odd(source)


@pytest.mark.parametrize("seed", range(4))
def test_broken_streams(seed: int) -> None:
    """Bytes lost, doubled and changed: an answer or a `ModelError`."""
    assert any(check_broken(Random(seed * 1000 + number)) for number in range(500))


@given(
    st.sampled_from(READERS), st.binary(max_size=200), st.sampled_from([b"", b"data: ", b"{", b"event: error\ndata:"])
)
def test_any_bytes(reader: str, data: bytes, start: bytes) -> None:
    """Whatever the bytes are."""
    check_broken(Random(0), start + data, reader)


NAMES = st.sampled_from(
    [
        *["choices", "delta", "message", "content", "tool_calls", "function", "name", "arguments", "index", "id"],
        *["usage", "error", "type", "text", "output", "item", "response", "status", "content_block", "partial_json"],
        *["input", "reasoning", "thinking", "finish_reason", "stop_reason", "detail", "code", "base_resp"],
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(READERS), st.dictionaries(NAMES, VALUES, max_size=5), st.booleans())
@settings(deadline=None)
def test_any_json(reader: str, document: dict[str, object], streamed: bool) -> None:
    """Any JSON under the names that the APIs use, as an event and as a document."""
    body = json.dumps(document).encode()
    try:
        read_recorded_stream(MODELS[reader], b"data: " + body + b"\n\n" if streamed else body)
    except ModelError:
        pass
