"""The command `python -m bench.stress`: the whole suite three times, with a busy process on each core.

A test that fails once under load is a mistake of the product or of the test: this finds both. Ends with 1 at the first
round that isn't green. `--part calls --rounds 1` runs one part of a round, for sessions that are shorter than a round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

BURN = "while True: pass"
#: The runs of pytest that `make test` makes.
PARTS = {
    "main": ["--ignore", "tests/calls", "--ignore", "tests/chaos/network", "-n", "2", "--dist", "loadfile"],
    "calls": ["tests/calls", "--ignore", "tests/calls/process", "-n", "2", "--dist", "loadfile"],
    "process": ["tests/calls/process"],
}


def main() -> int:
    """Run the rounds; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.stress", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=PARTS, action="append", help="of a round; default: all")
    parser.add_argument("--burners", type=int, default=os.cpu_count() or 1, help="busy processes; 0 beside other work")
    parser.add_argument("paths", nargs="*", help="run these tests instead of all")
    chosen = parser.parse_args()
    runs = [chosen.paths] if chosen.paths else [PARTS[part] for part in chosen.part or PARTS]
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(chosen.burners)]
    try:
        for number in range(1, chosen.rounds + 1):
            began = time.monotonic()
            for run in runs:
                if subprocess.run([sys.executable, "-m", "pytest", "-q", *run], check=False).returncode:
                    print(f"round {number}: not green")
                    return 1
            print(f"round {number}: green in {time.monotonic() - began:.0f} s", flush=True)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
