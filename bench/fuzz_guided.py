"""The command `python -m bench.fuzz_guided [--inputs 100000]`: libFuzzer breaks streams, guided by what they reach.

Needs `pip install atheris`. It begins with a corpus of odd streams; a fault ends it with a file that holds the input.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["desist.models"]):
    from bench.fuzz import check_broken
    from bench.odd_streams import READERS, odd_stream


def _one(data: bytes) -> None:
    if data:
        check_broken(Random(0), data[1:], READERS[data[0] % len(READERS)])


def main() -> None:
    """Make the corpus and fuzz. libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_guided", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    inputs = parser.parse_args().inputs
    corpus = tempfile.mkdtemp()
    for number in range(300):
        stream = odd_stream(Random(number))
        Path(corpus, str(number)).write_bytes(bytes([READERS.index(stream.reader)]) + stream.body)
    atheris.Setup([sys.argv[0], f"-runs={inputs}", "-timeout=10", "-max_len=4096", corpus], _one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
