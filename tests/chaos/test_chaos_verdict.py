"""The verdict of the chaos harness finds each mistake that it is there for: in histories that are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench.chaos.history import History
from bench.chaos.verdict import RULES, Verdict, judge

Notes = list[dict[str, Any]]
R = "s0-0000-quick"


def note(t: float, who: str, what: str, **more: Any) -> dict[str, Any]:
    pids = {"worker0.1": 1, "worker1.2": 2, "desk": 3, "observer": 4, "follower0": 5, "controller": 6}
    return {"t": t, "who": who, "pid": pids[who], "what": what, **more}


def told(t: float, who: str, status: str, **more: Any) -> dict[str, Any]:
    rest = {"how": "run", "terminal": 1, "source": None, "reason": None, "store_error": None, **more}
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


def completed() -> Notes:
    """A run that completes, after one crash."""
    return [
        note(1.0, "worker0.1", "ordered", run=R),
        note(1.1, "worker0.1", "start", run=R, step="one"),
        event(1.2, "follower0", 0),
        note(1.4, "worker0.1", "end", run=R, step="one"),
        note(1.4, "worker0.1", "start", run=R, step="two"),
        seen(1.5, "RUNNING", one=1),
        *fault(1.6, 1.7, "kill", 1),
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
        "stays_cancelled",
        [*cancelled(), note(2.0, "worker0.1", "start", run=R, step="two")],
    ),
    "it is gone on with": ("stays_cancelled", [*cancelled(), note(2.0, "worker1.2", "resumed", run=R, since=2.0)]),
    "it comes back": ("stays_cancelled", [*cancelled(), seen(2.0, "RUNNING")]),
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


EXCUSES: dict[str, Notes] = {
    "the disk was full": [
        *changed(completed(), "told", store_error="the disk is full"),
        *fault(2.5, 2.9, "full", None),
    ],
    "a frozen worker wakes": [
        *cancelled(),
        *fault(1.2, 1.9, "freeze_long", 1),
        note(2.0, "worker0.1", "start", run=R, step="two"),
    ],
    "the worker died with its receipt": [
        *completed(),
        {**answer(1.55, "receipt", "accepted", True, status="CANCELLING", where="own"), "pid": 1, "who": "worker0.1"},
    ],
    "a worker lost it": [*completed(), told(3.5, "worker0.1", "CANCELLED", source="lease_lost", store_error="taken")],
}


@pytest.mark.parametrize("excuse", EXCUSES)
def test_what_isn_t_promised_is_excused_and_counted(excuse: str) -> None:
    """What the docs say can't be promised breaks no rule; but it is counted."""
    verdict = judged(EXCUSES[excuse])
    assert verdict.broken == []
    assert verdict.excused.total() >= 1
