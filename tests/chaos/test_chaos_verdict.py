"""The verdict of the chaos harness finds each mistake that it is there for: in histories that are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench.chaos.bounds import BOUNDS
from bench.chaos.history import History
from bench.chaos.verdict import RULES, Verdict, judge

Notes = list[dict[str, Any]]
R = "s0-0000-quick"


def note(t: float, who: str, what: str, **more: Any) -> dict[str, Any]:
    pids = {"worker0.1": 1, "worker1.2": 2, "desk": 3, "observer": 4, "follower0": 5, "controller": 6}
    return {"t": t, "who": who, "pid": pids[who], "what": what, **more}


def told(t: float, who: str, status: str, **more: Any) -> dict[str, Any]:
    rest = {"how": "run", "terminal": 1, "source": None, "reason": None, "store_error": None, "since_request": 0.0}
    rest |= more
    return note(t, who, "told", run=R, status=status, **rest)


def seen(t: float, status: str, looked_at: float | None = None, **steps: int) -> dict[str, Any]:
    return note(
        t, "observer", "seen", run=R, status=status, steps=steps, looked_at=t if looked_at is None else looked_at
    )


def answer(t: float, what: str, outcome: str, truth: bool, **more: Any) -> dict[str, Any]:
    who = "controller" if what == "again" else "desk"
    rest = {"run": R, "where": "desk", "reason": "enough", **more}
    return note(t, who, what, outcome=outcome, truth=truth, **rest)


def event(t: float, who: str, index: int, text: str | None = None, ends: bool = False) -> dict[str, Any]:
    what = "recorded" if who == "controller" else "heard"
    return note(t, who, what, run=R, index=index, event="E", ends=ends, text=text, of=R)


def fault(begin: float, end: float, what: str, child: int | None) -> Notes:
    return [
        note(t, "controller", "fault", fault=what, phase=phase, child=child)
        for t, phase in ((begin, "begins"), (end, "ends"))
    ]


def killed(t: float, child: int, how: str = "kill") -> dict[str, Any]:
    return note(t, "controller", "gone", child=child, how=how, since=t - 0.01)


def own(t: float, who: str = "worker0.1", pid: int = 1, **more: Any) -> dict[str, Any]:
    """A cancel that the run's own process has accepted."""
    return {**answer(t, "receipt", "accepted", True, status="CANCELLING", where="own", **more), "pid": pid, "who": who}


def completed() -> Notes:
    """A run that completes, after one crash."""
    return [
        note(1.0, "worker0.1", "ordered", run=R),
        note(1.1, "worker0.1", "start", run=R, step="one"),
        event(1.2, "follower0", 0),
        note(1.4, "worker0.1", "end", run=R, step="one"),
        note(1.4, "worker0.1", "start", run=R, step="two"),
        seen(1.5, "RUNNING", one=1),
        killed(1.6, 1),
        note(2.0, "worker1.2", "resumed", run=R, since=2.0),
        note(2.1, "worker1.2", "start", run=R, step="two"),
        told(3.0, "worker1.2", "COMPLETED", how="follow"),
        event(3.1, "follower0", 1, ends=True),
        seen(3.1, "COMPLETED", one=1, two=1),
        answer(4.0, "receipt", "finished", False, status="COMPLETED"),
        answer(4.1, "settled", "finished", False, status="COMPLETED", reason=None),
        event(9.0, "controller", 0),
        event(9.0, "controller", 1, ends=True),
        note(9.1, "controller", "stored", run=R, status="COMPLETED", reason=None),
        answer(9.2, "again", "finished", False, status="COMPLETED", reason=None),
    ]


def cancelled() -> Notes:
    """A run that is cancelled in its first step."""
    return [
        note(1.0, "worker0.1", "ordered", run=R),
        note(1.1, "worker0.1", "start", run=R, step="one"),
        event(1.2, "follower0", 0),
        note(1.3, "desk", "asking", run=R, where="desk"),
        answer(1.3, "receipt", "accepted", True, status="CANCELLING"),
        told(1.4, "worker0.1", "CANCELLED", source="user", reason="enough"),
        answer(1.5, "settled", "accepted", True, status="CANCELLED"),
        event(1.5, "follower0", 1, ends=True),
        seen(1.6, "CANCELLED"),
        event(9.0, "controller", 0),
        event(9.0, "controller", 1, ends=True),
        note(9.1, "controller", "stored", run=R, status="CANCELLED", reason="enough"),
        answer(9.2, "again", "already_cancelled", True, status="CANCELLED"),
    ]


def judged(notes: Notes) -> Verdict:
    return judge(History(notes))


def without(notes: Notes, *what: str) -> Notes:
    return [one for one in notes if one["what"] not in what]


def changed(notes: Notes, what: str, **changes: Any) -> Notes:
    return [{**one, **changes} if one["what"] == what else one for one in notes]


@pytest.mark.parametrize("history", [completed, cancelled])
def test_what_is_right_is_found_right(history: Callable[[], Notes]) -> None:
    """A history in which all went as promised breaks no rule."""
    assert judged(history()).broken == []


MISTAKES: dict[str, tuple[str, Notes]] = {
    "it never ends": ("ends", changed(completed(), "stored", status="RUNNING")),
    "its record is gone": ("ends", without(completed(), "stored", "again")),
    "two terminal events": ("one_end", changed(completed(), "told", terminal=2)),
    "no terminal event": ("one_end", changed(completed(), "told", terminal=0, status=None)),
    "two workers complete it": ("one_end", [*completed(), told(3.5, "worker0.1", "COMPLETED")]),
    "it is stored otherwise than told": ("told_is_stored", changed(completed(), "told", status="ERROR")),
    "its end isn't stored, and nothing was broken": (
        "told_is_stored",
        changed(completed(), "told", store_error="the disk is full"),
    ),
    "accepted, and completed": ("receipts_are_true", changed(completed(), "receipt", outcome="accepted", truth=True)),
    "denied, and cancelled": ("receipts_are_true", changed(cancelled(), "receipt", outcome="finished", truth=False)),
    "a later receipt says otherwise": ("receipts_are_true", changed(cancelled(), "again", truth=False)),
    "the receipt settles otherwise": ("receipts_are_true", changed(cancelled(), "settled", status="COMPLETED")),
    "an early cancel doesn't hold": (
        "receipts_are_true",
        [answer(0.5, "receipt", "unknown", False, status=None, where="before"), *completed()],
    ),
    "a later reason wins": ("first_reason_wins", changed(cancelled(), "again", reason="too late")),
    "nobody tells who waits": ("receipts_settle", without(cancelled(), "settled")),
    "a step begins after the end": (
        "stays_ended",
        [*cancelled(), note(2.0, "worker0.1", "start", run=R, step="two")],
    ),
    "it is gone on with": ("stays_ended", [*cancelled(), note(2.0, "worker1.2", "resumed", run=R, since=2.0)]),
    "it comes back": ("stays_ended", [*cancelled(), seen(2.0, "RUNNING")]),
    "a completed one is gone on with": (
        "stays_ended",
        [*completed(), note(3.5, "worker0.1", "resumed", run=R, since=3.4)],
    ),
    "one whose end was stored is gone on with": (
        "stays_ended",
        [*completed(), note(1.6, "worker0.1", "dying", run=R, phase="after_store")],
    ),
    "it is taken from a worker that lives": ("nothing_without_cause", without(completed(), "gone")),
    "it is an error, and nobody died": (
        "nothing_without_cause",
        [note(1.0, "worker0.1", "ordered", run=R), note(9.1, "controller", "stored", run=R, status="ERROR")],
    ),
    "it is cancelled, and nobody asked": ("nothing_without_cause", without(cancelled(), "asking")),
    "a run is lost, and nothing had happened": (
        "told_is_stored",
        [*completed(), told(3.5, "worker0.1", "CANCELLED", source="lease_lost", store_error="taken")],
    ),
    "following doesn't end": ("can_be_read", [*completed(), note(9.0, "controller", "unread", run=R, error="long")]),
    "a finished step runs again": (
        "finished_stays_finished",
        [*completed(), note(2.05, "worker1.2", "start", run=R, step="one")],
    ),
    "a finished step disappears": ("finished_stays_finished", [*completed(), seen(2.5, "RUNNING")]),
    "a stream ends without its end": (
        "followers_hear_all",
        [*completed(), note(2.0, "follower0", "early", run=R, after=0)],
    ),
    "an event is doubled": ("followers_hear_all", [*completed(), event(1.3, "follower0", 0)]),
    "an event is lost": ("followers_hear_all", [n for n in completed() if n["what"] != "heard" or n["index"] != 0]),
    "an event is another one": ("followers_hear_all", changed(completed(), "recorded", event="F")),
    "an end is stored twice": ("followers_hear_all", [*completed(), event(9.0, "controller", 2, ends=True)]),
    "who follows waits for ever": ("followers_hear_all", [n for n in completed() if not n.get("ends")]),
    "a traceback": (
        "nobody_complains",
        [*completed(), note(3.0, "worker1.2", "log", level="WARNING", text="oh", trace="Traceback")],
    ),
    "an error in the log": (
        "nobody_complains",
        [*completed(), note(3.0, "worker1.2", "log", level="ERROR", text="it could not be stored", trace=None)],
    ),
    "something is printed": (
        "nobody_complains",
        [*completed(), note(9.0, "controller", "printed", name="w", text="x")],
    ),
    "the file is damaged": ("database_is_sound", [*completed(), note(9.0, "controller", "wrong", text="row missing")]),
    "a worker says nothing": ("workers_tell", without(cancelled(), "told")),
    "a process ends by itself": (
        "processes_end",
        [*completed(), note(8.0, "controller", "died", name="worker1.2", code=-11)],
    ),
    "a process hangs": ("processes_end", [*completed(), note(9.0, "controller", "hangs", name="worker1.2")]),
    "a run is refused": ("runs_are_taken", [*completed(), note(1.0, "worker0.1", "refused", run=R, error="no")]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_is_found(mistake: str) -> None:
    """Each mistake breaks the rule that is there for it."""
    rule, notes = MISTAKES[mistake]
    assert rule in {name for name, _, _ in judged(notes).broken}


def test_each_rule_has_its_mistake() -> None:
    """No rule is there that nothing could break."""
    assert set(RULES) <= {rule for rule, _ in MISTAKES.values()}


def frozen_then(*more: dict[str, Any]) -> Notes:
    """A worker is frozen for longer than its lease, until 5.0, and another one has its run; then that happens."""
    return [*fault(1.6, 5.0, "freeze_long", 1), *more, *without(completed(), "gone")]


def full_then(*more: dict[str, Any]) -> Notes:
    """The disk is full, and a run begins whose start isn't recorded, until 2.9; then that happens."""
    return [*fault(0.9, 2.9, "full", None), note(1.0, "worker0.1", "ordered", run=R), *more]


def done() -> Notes:
    """Its end, which was stored when the disk had room again."""
    return [
        event(8.0, "follower0", 0, ends=True),
        told(8.0, "worker0.1", "COMPLETED", how="follow"),
        event(9.0, "controller", 0, ends=True),
        note(9.1, "controller", "stored", run=R, status="COMPLETED", reason=None),
    ]


def taken_and_cancelled() -> Notes:
    """A run that another worker has taken from a frozen one is cancelled there."""
    frozen = fault(1.15, 5.0, "freeze_long", 1)
    taken = [note(3.3, "worker1.2", "resumed", run=R, since=3.2), told(3.6, "worker1.2", "CANCELLED", how="follow")]
    return [*frozen, *taken, *(n for n in shifted(without(cancelled(), "told"), 1.2, 2.2))]


def shifted(notes: Notes, after: float, by: float) -> Notes:
    return [{**n, "t": n["t"] + by} if n["t"] > after else n for n in notes]


def away() -> Notes:
    """The server is away just before that worker wakes."""
    return fault(3.8, 4.9, "restart", None)


def start(t: float) -> dict[str, Any]:
    return note(t, "worker0.1", "start", run=R, step="two")


def lost(t: float, since_request: float = 0.0) -> dict[str, Any]:
    taken = {"source": "lease_lost", "store_error": "taken", "since_request": since_request}
    return told(t, "worker0.1", "CANCELLED", **taken)


def said(t: float, text: str) -> dict[str, Any]:
    return note(t, "worker0.1", "log", level="ERROR", text=text, trace=None)


#: Of each bound: a case within it; one that is too late, or due to a fault that is none; and one case too many.
EXCUSES: dict[str, tuple[Notes, Notes, Notes]] = {
    "unrecorded_cancel": (
        [*completed(), own(1.55)],
        [*completed(), own(1.55), note(1.56, "worker0.1", "cancel_recorded", run=R)],
        [*completed(), *(own(1.55) for _ in range(BOUNDS["unrecorded_cancel"].times + 1))],
    ),
    "unrecorded_start": (
        full_then(start(1.1), killed(2.0, 1)),
        full_then(start(1.1), told(2.0, "worker0.1", "COMPLETED", store_error="full"), killed(6.5, 1)),
        [],
    ),
    "unrecorded_intent": (
        [*full_then(answer(0.5, "receipt", "unknown", False, status=None), start(1.1)), *done()],
        [*full_then(answer(0.5, "receipt", "unknown", False, status=None), start(6.5)), *done()],
        [],
    ),
    "unstored_end": (
        full_then(told(2.5, "worker0.1", "COMPLETED", store_error="the disk is full"), *done()),
        full_then(told(6.5, "worker0.1", "COMPLETED", store_error="the disk is full"), *done()),
        full_then(*[told(2.5, "worker0.1", "COMPLETED", store_error="full")] * (BOUNDS["unstored_end"].times + 1)),
    ),
    "lost": (
        frozen_then(lost(5.9, since_request=0.6)),
        frozen_then(lost(5.9)),
        frozen_then(*[lost(5.3)] * (BOUNDS["lost"].times + 1)),
    ),
    "cancelled_twice": (
        [*taken_and_cancelled(), told(5.2, "worker0.1", "CANCELLED")],
        [*taken_and_cancelled(), told(6.2, "worker0.1", "CANCELLED")],
        [*taken_and_cancelled(), *[told(5.2, "worker0.1", "CANCELLED")] * (BOUNDS["cancelled_twice"].times + 1)],
    ),
    "late_step": (
        frozen_then(start(5.2), lost(5.3), *away()),
        frozen_then(start(5.1), lost(5.3)),
        frozen_then(*[start(5.2)] * (BOUNDS["late_step"].times + 1), *away()),
    ),
    "logged": (
        [*full_then(said(2.0, "run r could not be stored: the disk is full")), *done()],
        [*full_then(said(6.5, "run r could not be stored: the disk is full")), *done()],
        [*full_then(*[said(2.0, "run r could not be stored: full")] * (BOUNDS["logged"].times + 1)), *done()],
    ),
}


@pytest.mark.parametrize("excuse", EXCUSES)
def test_what_isn_t_promised_is_excused_and_counted(excuse: str) -> None:
    """What the docs say can't be promised breaks no rule; but it is counted."""
    verdict = judged(EXCUSES[excuse][0])
    assert verdict.broken == []
    assert verdict.excused.figures()[excuse]["cases"] >= 1


@pytest.mark.parametrize("excuse", EXCUSES)
def test_an_excuse_has_an_end(excuse: str) -> None:
    """The same, later after the fault than the bound says, breaks a rule."""
    assert judged(EXCUSES[excuse][1]).broken


@pytest.mark.parametrize("excuse", [name for name, (_, _, many) in EXCUSES.items() if many])
def test_an_excuse_counts(excuse: str) -> None:
    """The same, more often for one fault than the bound says, breaks a rule."""
    assert "excuses_are_bounded" in {rule for rule, _, _ in judged(EXCUSES[excuse][2]).broken}


def test_each_excuse_is_tested() -> None:
    """No bound is there that these tests don't go beyond."""
    assert set(EXCUSES) == set(BOUNDS)


@pytest.mark.parametrize("short", ["freeze_short", "locked", "terminate", "freeze_server"])
def test_short_faults_excuse_no_loss(short: str) -> None:
    """A worker that is frozen, or can't write, for less than its lease loses nothing."""
    child = 1 if short == "freeze_short" else None
    notes = [*fault(1.6, 2.7, short, child), *without(completed(), "gone"), lost(2.8)]
    assert {"nothing_without_cause", "told_is_stored"} <= {rule for rule, _, _ in judged(notes).broken}
