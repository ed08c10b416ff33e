"""Writes into the docs what comes from the code: the diagram of statuses, and which statuses may follow which.

`python docs/generate.py` writes; with `--check` it only says whether the docs are up to date (exit code 1: not).
"""

from __future__ import annotations

import sys
from pathlib import Path

from desist.cancel.status import MOVES, diagram

PAGE = Path(__file__).with_name("design.md")
START, END = "<!-- generated: statuses -->", "<!-- /generated -->"


def statuses() -> str:
    """Return the diagram and the table of moves as Markdown."""
    rows = "\n".join(f"| `{at.value}` | {signal.value} | `{to.value}` |" for (at, signal), to in MOVES.items())
    return f"```mermaid\n{diagram()}\n```\n\n| status | signal | becomes |\n|---|---|---|\n{rows}\n"


def main() -> int:
    """Write the page, or check it."""
    page = PAGE.read_text()
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    made = f"{before}{START}\n{statuses()}{END}{after}"
    if "--check" in sys.argv:
        if made != page:
            print(f"{PAGE.name} is out of date: run `make docs`")
            return 1
        return 0
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
