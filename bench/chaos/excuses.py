"""What excuses a run that didn't go as promised: each function returns the fault that it is due to, or None. Pure.

How long after its fault an excuse holds stands in `bounds`; how often one fault may excuse is counted there.
"""

from __future__ import annotations

from bench.chaos.bounds import BACK, CAUGHT, LOGGED, RECORDED, UNSTORED, WOKEN, Span
from bench.chaos.history import History, Note, Run

__all__ = ["late_step", "logged", "lost", "unrecorded_cancel", "unrecorded_start", "unstored_end", "vanished"]

#: The faults of a database that let a write fail. All others hold writes up, for less than anybody waits.
_FAILING = ("full",)
#: Those in which it can't even be read.
_AWAY = ("restart", "terminate", "freeze_server")


def unrecorded_cancel(history: History, run: Run, receipt: Note) -> Span | None:
    """A cancel from the run's own process is recorded after its receipt, when what was to be written before is written.

    Not if the process is killed before that; nor if it is frozen, or can't reach the database, until another one has
    taken the run: then it says that its end isn't stored. Once it is recorded, it holds.
    """
    pid = receipt["pid"]
    given = [n["t"] for n in run.all("receipt") if (n["pid"], n["where"]) == (pid, receipt.get("where"))]
    at = given[0] if given else receipt["t"]  # of one that has settled: when it was given
    if receipt["what"] == "again" or pid not in run.owners(at) or run.settled(receipt):
        return None
    recorded = [note["t"] for note in run.all("cancel_recorded") if note["pid"] == pid]
    lapse = history.lapsed(pid, at, within=0.0, before=RECORDED)
    if lapse is not None and any(note["pid"] == pid and note["store_error"] for note in run.all("told")):
        return None if recorded and recorded[0] < lapse.begin else lapse  # later there was nothing to record it in
    death = history.killed.get(pid)
    return death if death is not None and at <= death.end and not recorded else None


def _written_by(history: History, at: float, within: float) -> float:
    """Return when everything that was left to be written at that time is written, if nothing is broken for good."""
    while (broken := history.broken(at, within=0.0, before=within)) is not None and broken.end > at:
        at = broken.end
    return at + within


def unrecorded_start(history: History, run: Run) -> Span | None:
    """A run begins although the full disk didn't record its start."""
    starts = run.all("start")[:1] or run.all("told")[:1]
    if not starts or run.all("resumed"):
        return None
    return history.broken(starts[0]["t"], UNSTORED, *_FAILING)


def vanished(history: History, run: Run) -> tuple[str, Span] | None:
    """Return why nothing is known of a run that somebody could see, and of its end: its process died.

    Either its start wasn't recorded, and it died before the end was; or all that anybody had of it was the receipt of
    that process.
    """
    owners = run.owners(float("inf"))
    death = history.killed.get(owners[-1]) if owners else None
    if run.status is not None or run.all("seen") or death is None:
        return None
    if not run.all("start", "told"):
        receipts = [note for note in run.all("receipt") if note["outcome"] == "accepted"]
        excused = [unrecorded_cancel(history, run, note) for note in receipts]
        return ("unrecorded_cancel", death) if receipts and all(excused) else None
    full = unrecorded_start(history, run)
    told = run.all("told")
    if full is None or (told and death.end > _written_by(history, max(told[-1]["t"], full.end), UNSTORED)):
        return None
    return "unrecorded_start", full


def unstored_end(history: History, told: Note) -> Span | None:
    """An end that a full disk refuses is told as not stored; so is one of a run that another process has."""
    return history.broken(told["t"], UNSTORED, *_FAILING) or history.lapsed(told["pid"], told["t"], UNSTORED)


def lost(history: History, pid: int, at: float) -> Span | None:
    """A worker whose lease could run out finds out which runs it has lost."""
    found = history.lapsed(pid, at, BACK)
    woken = found is not None and found.child == pid and "+" not in found.kind
    return None if woken and found is not None and at > found.end + WOKEN else found


def late_step(history: History, start: Note) -> Span | None:
    """A step is begun by a worker that couldn't reach the database, and doesn't know yet what it has missed.

    One that was frozen looks first, unless it was frozen between that look and the step.
    """
    found = lost(history, start["pid"], start["t"])
    away = found is not None and bool(set(found.kind.split("+")) & set(_AWAY))
    return found if found is not None and (away or start["t"] <= found.end + CAUGHT) else None


def logged(history: History, note: Note) -> Span | None:
    """An error in the log names a fault: a run that was lost, a write that failed."""
    text, at = note["text"], note["t"]
    if note["trace"]:
        return None
    if "was taken over" in text or "owns run" in text or "was cancelled by" in text:
        return history.lapsed(note["pid"], at, LOGGED)
    unwritten = "could not be stored" in text or "can't be written" in text or "could not be taken" in text
    return history.broken(at, UNSTORED, *_FAILING) if unwritten else None
