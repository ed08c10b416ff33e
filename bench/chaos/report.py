"""What is printed: figures of a history, and of each run that broke a rule everything that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.chaos.history import History
from bench.chaos.plan import Plan, is_phase
from bench.chaos.verdict import Verdict

__all__ = ["figures", "story", "table"]

#: How many runs that broke a rule are told in full.
STORIES = 5


def figures(plan: Plan, history: History, verdict: Verdict) -> dict[str, Any]:
    """Return the figures, fit for JSON."""
    runs = list(history.runs.values())
    faults = Counter(note["how"] for note in history.of("gone"))
    faults += Counter(n["fault"] for n in history.of("fault") if n["phase"] == "begins" and not _is_kill(n["fault"]))
    taken = Counter(note["outcome"] for note in history.of("receipt"))
    return {
        "db": plan.db,
        "seed": plan.seed,
        "plan": plan.mark,
        "seconds": round(history.notes[-1]["t"] - history.notes[0]["t"], 1),
        "runs": {"planned": len(plan.starts), "accepted": sum(run.accepted for run in runs)},
        "ended": dict(Counter(str(run.status) for run in runs if run.accepted)),
        "kinds": dict(Counter(run.kind for run in runs if run.accepted)),
        "faults": dict(faults),
        "spared": sorted(plan.spared),
        "cancels": {
            "asked": len(history.of("asking")),
            "answered": dict(taken),
            "not taken": len(history.of("not_taken")),
            "from": dict(Counter(note["where"] for note in history.of("receipt"))),
        },
        "resumed": len(history.of("resumed")),
        "lost by their worker": sum(note["source"] == "lease_lost" for note in history.of("told")),
        "steps begun": len(history.of("start")),
        "looks noted": len(history.of("seen")),
        "share of the time in which the database was broken": round(_broken(history), 3),
        "excused": verdict.excused.figures(),
        "broken": [list(one) for one in verdict.broken],
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return a line of each seed."""
    lines = [
        "| seed | runs | ended | faults | cancels asked | resumed | excused | broken |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        excused = _listed({name: case["cases"] for name, case in one["excused"].items()})
        ended, faults = (_listed(one[name]) for name in ("ended", "faults"))
        total = sum(one["faults"].values())
        lines.append(
            f"| {one['seed']} | {one['runs']['accepted']} | {ended} | {total}: {faults}"
            f" | {one['cancels']['asked']} | {one['resumed']} | {excused} | {len(one['broken'])} |"
        )
    return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "0"


def _is_kill(fault: str) -> bool:
    return fault == "kill" or is_phase(fault)


def _broken(history: History) -> float:
    spans = sum(one.seconds for one in history.breaks)
    return spans / (history.notes[-1]["t"] - history.notes[0]["t"])


def story(plan: Plan, history: History, verdict: Verdict) -> str:
    """Return what was found, for people."""
    lines = []
    for name, run_id, words in verdict.broken[:50]:
        lines.append(f"BROKEN {name}: {run_id} {words}")
    for run_id in list(dict.fromkeys(run_id for _, run_id, _ in verdict.broken if run_id))[:STORIES]:
        lines.append(f"-- {run_id}")
        followed = any(name == "followers_hear_all" and at == run_id for name, at, _ in verdict.broken)
        told = [note for note in history.runs[run_id].notes if followed or note["what"] not in ("heard", "recorded")]
        lines += [_line(note, history.notes[0]["t"]) for note in told]
    return "\n".join(lines)


def _line(note: dict[str, Any], began: float) -> str:
    rest = {name: value for name, value in note.items() if name not in ("t", "who", "pid", "what", "run")}
    return f"   {note['t'] - began:8.3f} {note['who']:>11} {note['pid']:>7} {note['what']:9} {rest}"
