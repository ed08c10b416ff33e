"""The verdict: rules that every history must keep, by name. Pure: a history in, what breaks which rule out.

What a rule excuses has a bound (`bounds`): how long after which fault, and how often for each. Beyond that it breaks
the rule `excuses_are_bounded`; how often something was excused is told beside the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.chaos import excuses
from bench.chaos.bounds import Excuses
from bench.chaos.history import FINAL, History, Note, Run
from bench.chaos.plan import TOTALS

__all__ = ["RULES", "Verdict", "judge"]


@dataclass(slots=True)
class Verdict:
    """What was found."""

    broken: list[tuple[str, str, str]] = field(default_factory=list)  #: the rule, the run or "", words
    excused: Excuses = field(default_factory=Excuses)

    @property
    def holds(self) -> bool:
        """Whether every rule was kept."""
        return not self.broken


Found = Iterator[str]
Rule = Callable[[History, Run, Excuses], Found]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    """Make it one of the rules, under its name."""
    RULES[check.__name__] = check
    return check


def judge(history: History) -> Verdict:
    """Return which rules a history breaks."""
    verdict = Verdict()
    for run in history.runs.values():
        for name, check in RULES.items():
            verdict.broken += [(name, run.run_id, words) for words in check(history, run, verdict.excused)]
    verdict.broken += [(name, "", words) for name, words in _processes(history, verdict.excused)]
    verdict.broken += [("excuses_are_bounded", "", words) for words in verdict.excused.too_many]
    return verdict


@rule
def ends(history: History, run: Run, excused: Excuses) -> Found:
    """Every run that was accepted ends."""
    if run.status in FINAL or not run.accepted:
        return
    why = excuses.vanished(history, run)
    if why is None:
        yield f"it was accepted, and its status in the end is {run.status}"
    elif why[0] != "unrecorded_cancel":  # that is counted with its receipt
        excused.add(why[0], run.run_id, why[1], why[1].begin)


@rule
def one_end(history: History, run: Run, excused: Excuses) -> Found:
    """Each reader hears one terminal event, last; one worker tells the end, or all that do say it was cancelled."""
    for told in run.all("told"):
        if told["terminal"] != 1 or told["status"] is None:
            yield f"{told['who']} heard {told['terminal']} terminal events; the last event said {told['status']}"
    own = [told for told in run.told if told["how"] == "run"]  # the others heard what is stored
    others = [note["who"] for note in run.all("resumed")]
    if len(own) > 1 or (own and others):
        for told in own:
            cause = excuses.lost(history, told["pid"], told["t"])
            if told["status"] != "CANCELLED" or cause is None:
                yield f"{told['who']} told {told['status']}, and it was taken by {others}"
            else:
                excused.add("cancelled_twice", run.run_id, cause, told["t"])


@rule
def told_is_stored(history: History, run: Run, excused: Excuses) -> Found:
    """What a worker told is what is stored in the end."""
    for told in run.told:
        if told["status"] != run.status:
            yield f"{told['who']} told {told['status']}, stored is {run.status}"
    for told in run.all("told"):
        if told["source"] == "lease_lost":
            at = told["t"] - told["since_request"]
            cause, bound = excuses.lost(history, told["pid"], at), "lost"
        elif told["store_error"]:
            at = told["t"]
            cause, bound = excuses.unstored_end(history, told), "unstored_end"
        else:
            continue
        if cause is None:
            yield f"{told['who']} told {told['source']}, {told['store_error']} without a fault that could be why"
        else:
            excused.add(bound, run.run_id, cause, at)


@rule
def receipts_are_true(history: History, run: Run, excused: Excuses) -> Found:
    """A receipt is truthy if and only if the run ends, or has ended, CANCELLED; and it isn't taken back."""
    for note in [*run.all("receipt"), *run.all("settled"), *run.all("again")]:
        if note["outcome"] == "unknown":
            yield from _intent(history, run, note, excused)
        elif note["truth"] != (run.status == "CANCELLED"):
            cause = excuses.unrecorded_cancel(history, run, note)
            if cause is None:
                yield f"{note['who']} got {note['outcome']}, truth {note['truth']}; it ended {run.status}"
            elif note["what"] == "receipt":
                excused.add("unrecorded_cancel", run.run_id, cause, note["t"])
        wrong = note["what"] == "settled" and note["status"] != run.status
        if wrong and not (note["truth"] and excuses.unrecorded_cancel(history, run, note)):
            yield f"the receipt of {note['who']} settled as {note['status']}; it ended {run.status}"


def _intent(history: History, run: Run, receipt: Note, excused: Excuses) -> Found:
    """An id that wasn't known: the run that begins with it is born cancelled."""
    if run.status in (None, "CANCELLED") and not [n for n in run.all("start") if n["t"] > receipt["t"]]:
        return
    cause = excuses.unrecorded_start(history, run)
    if cause is None:
        yield f"{receipt['who']} cancelled it before it was known; it began all the same, and ended {run.status}"
    else:
        excused.add("unrecorded_intent", run.run_id, cause, run.all("start", "told")[0]["t"])


@rule
def nothing_without_cause(history: History, run: Run, excused: Excuses) -> Found:
    """A run is taken from a worker, or ended in its place, only if that died or could lose its lease.

    And none ends CANCELLED that nobody has cancelled.
    """
    for note in run.all("resumed"):
        before = [pid for pid in run.owners(note["t"]) if pid != note["pid"]]
        if before and not _could_lose(history, before[-1], note["t"]):
            yield f"{note['who']} took it from process {before[-1]}, to which nothing had happened"
    if run.status == "ERROR" and not any(_could_lose(history, pid) for pid in run.owners(float("inf"))):
        yield "it ended as an error, and nothing had happened to its worker"
    if run.status == "CANCELLED" and not run.all("asking"):
        yield "it ended cancelled, and nobody had asked for that"


def _could_lose(history: History, pid: int, at: float = float("inf")) -> bool:
    """Whether a process had died by then, or had been without a lease."""
    death = history.killed.get(pid)
    return (death is not None and death.begin <= at) or any(one.begin <= at for one in history.lapses(pid))


@rule
def first_reason_wins(history: History, run: Run, excused: Excuses) -> Found:
    """All receipts that have settled give the reason that is stored."""
    if run.stored is None or run.status != "CANCELLED":
        return
    for note in [*run.all("settled"), *run.all("again")]:
        if note["truth"] and note["reason"] != run.stored["reason"]:
            yield f"the receipt of {note['who']} says {note['reason']!r}, stored is {run.stored['reason']!r}"


@rule
def receipts_settle(history: History, run: Run, excused: Excuses) -> Found:
    """Whoever waits for the end of a run that was cancelled is told."""
    settled = {(n["pid"], n["where"]) for n in run.all("settled")}
    for note in run.all("receipt"):
        waits = note["outcome"] not in ("unknown",) and note["pid"] not in history.killed
        if waits and (note["pid"], note["where"]) not in settled:
            yield f"{note['who']} still waits for its end ({note['outcome']})"


@rule
def stays_ended(history: History, run: Run, excused: Excuses) -> Found:
    """A run whose end was seen, or told to who cancelled it, starts no step, isn't taken up, and stays as it was."""
    settled = [n for n in run.all("settled") if n["truth"] and excuses.unrecorded_cancel(history, run, n) is None]
    stored = [n for n in run.all("seen") if n["status"] in FINAL]
    stored += [n for n in run.all("dying") if n["phase"] == "after_store"]
    if not settled and not stored:
        return
    first = min(note["t"] for note in [*settled, *stored])
    status = stored[0].get("status", run.status) if stored else "CANCELLED"
    for note in run.notes:
        if note["t"] <= first:
            continue
        if note["what"] == "start" or (note["what"] == "resumed" and note["since"] > first):
            cause = excuses.late_step(history, note) if note["what"] == "start" else None
            if cause is not None:
                excused.add("late_step", run.run_id, cause, note["t"])
                continue
            late = note["t"] - first
            yield f"{note['who']} {note['what']}s {note.get('step', 'it')} {late:.3f} s after it had ended"
        elif note["what"] == "seen" and note["looked_at"] > first and note["status"] != status:
            yield f"seen as {note['status']} after it had ended as {status}"


@rule
def finished_stays_finished(history: History, run: Run, excused: Excuses) -> Found:
    """A step that the database showed as finished isn't begun again; nor does it disappear."""
    totals = TOTALS.get(run.kind, {})
    known: Counter[str] = Counter()
    begun: Counter[tuple[int, str]] = Counter()  # since it was seen, in each process
    for note in run.notes:
        if note["what"] in ("seen", "start") and "step" not in note:
            for step, count in note["steps"].items():
                if count > known[step]:
                    known[step] = count
                    begun = Counter({key: many for key, many in begun.items() if key[1] != step})
            gone = {step: known[step] for step in known if note["steps"].get(step, 0) < known[step]}
            if gone:
                yield f"{note['who']} saw fewer finished steps than before: {note['steps']}, and before {gone}"
        elif note["what"] == "start" and note["step"] in totals:
            step = note["step"]
            begun[note["pid"], step] += 1
            if known[step] and begun[note["pid"], step] > totals[step] - known[step]:
                cause = excuses.late_step(history, note)
                if cause is None:
                    yield f"{note['who']} began {step} again, which was seen finished"
                else:
                    excused.add("late_step", run.run_id, cause, note["t"])


@rule
def followers_hear_all(history: History, run: Run, excused: Excuses) -> Found:
    """Who follows a run from another process hears each of its events once, in their order; and the end last.

    Of a run that was cancelled text that was on its way may be left out: after "stop" nothing more scrolls by.
    """
    stored = {note["index"]: note for note in run.all("recorded")}
    heard = run.all("heard")
    indexes = [note["index"] for note in heard]
    if indexes != sorted(set(indexes)):
        yield f"{heard[0]['who']} heard events twice or in another order: {indexes}"
    ends = [note["index"] for note in run.all("recorded") if note["ends"]]
    if stored and ends != [max(stored)]:
        yield f"the ends that are stored are {ends}, and the last event {max(stored)}"
    for note in run.all("early"):
        yield f"{note['who']} was told that it is over after {note['after']}, without its end"
    cut = run.status == "CANCELLED"
    for note in heard:
        if cut and note["text"] is not None and note["index"] not in stored:
            continue
        if note["index"] not in stored or _words(note) != _words(stored[note["index"]]):
            yield f"{note['who']} heard {_words(note)}, stored is {_words(stored.get(note['index'], {}))}"
    if heard and heard[-1]["ends"]:
        missed = [note for index, note in stored.items() if index not in set(indexes)]
        if cut:
            missed = [note for note in missed if note["text"] is None]
        if missed:
            yield f"{heard[0]['who']} never heard {[_words(note) for note in missed]}"
    elif run.status in FINAL and run.all("ordered"):
        yield "nobody who followed it heard its end"


def _words(note: Note) -> tuple[object, ...]:
    return tuple(note.get(name) for name in ("index", "event", "text", "of", "ends"))


def _processes(history: History, excused: Excuses) -> Iterator[tuple[str, str]]:
    """Rules about processes and the database as a whole."""
    for pid, run in sorted(history.untold):
        yield "workers_tell", f"process {pid} took {run}, and never told its end"
    for note in history.of("wrong"):
        yield "database_is_sound", note["text"]
    for note in history.of("hangs"):
        yield "processes_end", f"{note['name']} didn't end when it was told to"
    for note in history.of("died"):
        yield "processes_end", f"{note['name']} ended by itself: {note['code']}"
    for note in history.of("unread"):
        yield "can_be_read", f"{note['run']}: {note['error']}"
    for note in history.of("refused"):
        yield "runs_are_taken", f"{note['run']}: {note['error']}"
    for note in history.of("printed"):
        yield "nobody_complains", f"{note['name']} printed: {note['text']}"
    for note in history.of("log"):
        if note["trace"] or note["level"] in ("ERROR", "CRITICAL"):
            cause = excuses.logged(history, note)
            if cause is not None:
                excused.add("logged", "", cause, note["t"])
            else:
                yield "nobody_complains", f"{note['who']} logged: {note['text']} {note['trace'] or ''}"
