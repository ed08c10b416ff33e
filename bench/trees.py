"""Random trees of work, cancelled at random moments: what is left must be what the receipt names.

A command only: `python -m bench.trees [--trees N] [--seed N]`. Ends with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench.work_trees import Server, cancel_tree, random_tree


def main() -> int:
    """Cancel trees until one differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.trees", description=__doc__)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logging.getLogger("desist").addHandler(logging.NullHandler())
    server, shared = Server(), ThreadPoolExecutor(64, thread_name_prefix="shared-by-trees")
    began, abandoned, busy, with_rest = time.monotonic(), 0, 0, 0
    for seed in range(chosen.seed, chosen.seed + chosen.trees):
        chance = random.Random(seed)
        tree, delay = random_tree(chance), chance.random() * 0.06
        is_async, face = chance.random() < 0.5, chance.choice(["run", "arun"])
        try:
            left, at_work = cancel_tree(tree, delay, is_async=is_async, face=face, server=server, shared=shared)
        except AssertionError as error:
            print(f"seed {seed}, {face}, async {is_async}, after {delay * 1e3:.1f} ms: {error}\n{tree}")
            return 1
        abandoned, busy, with_rest = abandoned + left, busy + at_work, with_rest + bool(left)
        if (seed - chosen.seed + 1) % 100 == 0:
            print(f"{seed - chosen.seed + 1} trees in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{chosen.trees} trees: {busy} threads, tasks and processes were at work; {with_rest} trees left {abandoned}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
