"""The command `python -m bench.fuzz --inputs 1000000`: odd and broken streams for the three stream readers.

Half of the inputs are streams as odd servers send them: text, reasoning and calls must come out as they went in. The
other half is broken: there may be an answer or a `ModelError`, but no other exception, and no input may take long.
`fuzz_guided` does the second half guided by what the inputs reach.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from bench.odd_streams import READERS, TOOLS, mutated, odd_stream
from desist.exceptions import ModelError
from desist.models.anthropic import Claude
from desist.models.http.model import HttpModel
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.testing import read_recorded_stream

__all__ = ["MODELS", "check_broken", "check_odd", "fuzz", "options"]

LONGEST = 2.0  #: seconds of CPU time for one input
MODELS: dict[str, HttpModel] = {"chat": OpenAIChat("m"), "responses": OpenAIResponses("m"), "messages": Claude("m")}


def check_odd(random: Random) -> None:
    """Read a stream as an odd server sends it.

    Raises:
        AssertionError: what was read isn't what the stream says.
    """
    stream = odd_stream(random)
    found = read_recorded_stream(MODELS[stream.reader], _chunks(random, stream.body), tools=TOOLS)
    assert found.content == stream.text, (stream, found)
    assert found.reasoning_content == stream.thought, (stream, found)
    calls = [(call.name, json.loads(call.arguments)) for call in found.tool_calls]
    assert sorted(calls, key=lambda call: call[1]["n"]) == stream.calls, (stream, found)


def check_broken(random: Random, body: bytes | None = None, reader: str | None = None) -> bool:
    """Read a broken stream, or `body`; return whether there was an answer.

    Raises:
        Exception: any but `ModelError`, which is a fault.
    """
    if body is None:
        stream = odd_stream(random)
        body = stream.body
        if random.random() < 0.15:  # one event as a document
            body = max(body.splitlines(), key=len).removeprefix(b"data:")
        body = mutated(random, body)
        reader = stream.reader if random.random() < 0.9 else None
    try:
        read_recorded_stream(MODELS[reader or random.choice(READERS)], _chunks(random, body))
    except ModelError as error:
        assert len(str(error)) < 2000, error
        return False
    return True


def _chunks(random: Random, body: bytes) -> list[bytes]:
    """Return the bytes in chunks, cut anywhere."""
    cuts = sorted(random.randrange(len(body) + 1) for _ in range(random.randrange(6)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _check(number: int, random: Random) -> str:
    if number % 2:
        check_odd(random)
        return "odd streams read"
    return "broken: an answer" if check_broken(random) else "broken: a ModelError"


def fuzz(inputs: int, seed: int, check: Callable[[int, Random], str]) -> int:
    """Check so many inputs. Print a line for each tenth, and the first fault with the seed of its input.

    Parameters:
        check: called with the number of the input and its generator; returns under which word the input is counted.
    """
    told: Counter[str] = Counter()
    began, slowest = time.monotonic(), 0.0
    for number in range(inputs):
        own = Random(seed * 1_000_000_007 + number)
        before = time.process_time()
        try:
            told[check(number, own)] += 1
        except BaseException:
            print(f"fault at input {number} of seed {seed}", file=sys.stderr)
            raise
        took = time.process_time() - before
        slowest = max(slowest, took)
        assert took < LONGEST, f"input {number} of seed {seed} took {took:.1f} s"
        if inputs >= 10 and (number + 1) % (inputs // 10) == 0:
            rate = (number + 1) / (time.monotonic() - began)
            print(f"{number + 1:>9,} inputs, {rate:,.0f}/s, slowest {slowest * 1e3:.0f} ms; {dict(told)}", flush=True)
    return 0


def options(program: str, about: str | None) -> argparse.Namespace:
    """Read the options of the command line: `inputs` and `seed`."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: a new one")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = options("bench.fuzz", __doc__)
    sys.exit(fuzz(chosen.inputs, chosen.seed, _check))
