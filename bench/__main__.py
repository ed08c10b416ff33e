"""The command: `python -m bench [--quick] [NAME ...]`. Prints tables; ends with 1 if a target was missed."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path

from bench.table import Table

#: What there is, in the order in which it runs: the light ones first, before this process has grown.
NAMES = (
    "import_cost",
    "unread",
    "steps",
    "store",
    "journal",
    "stored_runs",
    "events_store",
    "wide_and_deep",
    "events",
    "idle",
    "tokens",
    "concurrency",
    "cancel_crowd",
    "requests",
    "cancel_latency",
    "provider_tokens",
    "process",
    "server",
    "flood",
    "scale",
    "thread_interrupts",
    "started_work",
)
RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: less than a minute in all")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    logging.getLogger("desist").addHandler(logging.NullHandler())  # what is abandoned shows in the tables
    began = time.monotonic()
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}")
    tables: list[Table] = []
    for name in chosen.names or NAMES:
        for table in importlib.import_module(f"bench.{name}").measure(quick=chosen.quick):
            print(table.text(), flush=True)
            tables.append(table)
    missed = [figure.name for table in tables for figure in table.figures if not figure.ok]
    verdict = f"missed: {'; '.join(missed)}" if missed else "every target is met"
    print(f"\n{time.monotonic() - began:.0f} s; {verdict}")
    RESULTS.write_text(json.dumps([table.data() for table in tables], indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
