"""`python -m bench.chaos --db sqlite --runs 520 --seed 7` carries out a plan and judges it; 1 if a rule was broken."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.chaos.controller import Controller
from bench.chaos.history import History
from bench.chaos.notes import read_notes
from bench.chaos.plan import make_plan
from bench.chaos.report import figures, story, table
from bench.chaos.sites import open_site
from bench.chaos.verdict import judge

#: Runs begun in a second, if it isn't said how long all are to take.
RATE = 6.0


def main(arguments: list[str] | None = None) -> int:
    """Carry out the plan of each seed and judge it."""
    asked = _parse(arguments)
    found = [_judged(asked, seed) for seed in asked.seed]
    if len(found) > 1 and not asked.json:
        print(table(found))
    return 1 if any(one["broken"] for one in found) else 0


def _judged(asked: Any, seed: int) -> dict[str, Any]:
    """Carry out one plan; return its figures."""
    folder = Path(tempfile.mkdtemp(prefix=f"desist-chaos-{asked.db}-{seed}-"))
    seconds = asked.minutes * 60 if asked.minutes else asked.runs / RATE
    with open_site(asked.db, folder) as site:
        plan = make_plan(asked.db, seed=seed, runs=asked.runs, seconds=seconds, spared=site.spared)
        print(
            f"chaos on {plan.db}: seed {plan.seed}, plan {plan.mark}, {len(plan.starts)} runs in {seconds:g} s",
            flush=True,
        )
        controller = Controller(plan, site, folder, asked.mistake)
        controller.run()
    history = History(read_notes(controller.file))
    verdict = judge(history)
    found = figures(plan, history, verdict)
    _print(found, as_json=asked.json)
    if verdict.holds:
        _remove(folder)
    else:
        print(story(plan, history, verdict))
        print(f"the files are kept in {folder}. The plan repeats with --seed {seed}; the machine's timing doesn't.")
    sys.stdout.flush()
    return found


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--runs", type=int, default=520, help="default: 520")
    parser.add_argument("--seed", type=int, nargs="+", default=[7], help="of the plan, or several; default: 7")
    parser.add_argument("--minutes", type=float, help=f"over which the runs begin; default: {RATE:g} a second")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--mistake", action="append", default=[], help="have workers work wrongly: see `mistakes`")
    return parser.parse_args(arguments)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if name != "broken":
            print(f"  {name}: {value}")
    print(f"  {len(found['broken'])} rules broken" if found["broken"] else "  every rule was kept")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
