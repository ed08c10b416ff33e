"""The verdict: rules that every history must keep, by name. Pure: a history in, what breaks which rule out.

What a rule excuses, it says; how often something was excused is counted, and told beside the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.chaos.history import FINAL, History, Note, Run
from bench.chaos.plan import TOTALS

__all__ = ["RULES", "Verdict", "judge"]


@dataclass(slots=True)
class Verdict:
    """What was found."""

    broken: list[tuple[str, str, str]] = field(default_factory=list)  #: the rule, the run or "", words
    excused: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        """Whether every rule was kept."""
        return not self.broken


Found = Iterator[str]
Rule = Callable[[History, Run, Counter[str]], Found]
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
    return verdict


@rule
def ends(history: History, run: Run, excused: Counter[str]) -> Found:
    """Every run that was accepted ends."""
    if run.status in FINAL or not run.accepted:
        return
    first = run.all("start", "told")[:1]
    if run.status is None and first and history.in_trouble(first[0]["t"]) and not run.all("seen"):
        excused["began while the database was broken, and left no record: its worker died"] += 1
        return
    yield f"it was accepted, and its status in the end is {run.status}"


@rule
def one_end(history: History, run: Run, excused: Counter[str]) -> Found:
    """Each reader hears one terminal event, last; one worker tells the end, or all that do say it was cancelled."""
    for told in run.all("told"):
        if told["terminal"] != 1 or told["status"] is None:
            yield f"{told['who']} heard {told['terminal']} terminal events; the last event said {told['status']}"
    own = [told for told in run.told if told["how"] == "run"]  # the others heard what is stored
    others = [note["who"] for note in run.all("resumed")]
    if len(own) > 1 or (own and others):
        if any(told["status"] != "CANCELLED" for told in own):
            yield f"told by {[(told['who'], told['status']) for told in own]}, and taken by {others}"
        else:
            excused["told as cancelled by the worker that had it, too"] += 1


@rule
def told_is_stored(history: History, run: Run, excused: Counter[str]) -> Found:
    """What a worker told is what is stored in the end."""
    for told in run.told:
        if told["status"] != run.status:
            yield f"{told['who']} told {told['status']}, stored is {run.status}"
    for told in run.all("told"):
        if told["source"] == "lease_lost":
            excused["a worker lost it, and said so"] += 1
        elif told["store_error"]:
            excused["told as not stored"] += 1
            if not (history.in_trouble(told["t"]) or history.was_away(told["pid"], told["t"])):
                yield f"{told['who']} could not store its end though nothing was broken: {told['store_error']}"


@rule
def receipts_are_true(history: History, run: Run, excused: Counter[str]) -> Found:
    """A receipt is truthy if and only if the run ends, or has ended, CANCELLED; and it isn't taken back."""
    settled = {(n["pid"], n["where"]) for n in run.all("settled")}
    for note in [*run.all("receipt"), *run.all("settled"), *run.all("again")]:
        if note["outcome"] == "unknown":
            yield from _intent(history, run, note, excused)
        elif note["truth"] != (run.status == "CANCELLED"):
            if _died_with_it(history, run, note, settled):
                excused["accepted by its own worker, which died or froze before that was recorded"] += 1
                continue
            yield f"{note['who']} got {note['outcome']}, truth {note['truth']}; it ended {run.status}"
        if note["what"] == "settled" and note["status"] != run.status:
            yield f"the receipt of {note['who']} settled as {note['status']}; it ended {run.status}"


def _died_with_it(history: History, run: Run, receipt: Note, settled: set[tuple[int, str]]) -> bool:
    """A cancel from the run's own process is recorded a moment later: docs/durability.md says so.

    Not if the process is killed before that; nor if it is frozen, or the database can't be reached, until another one
    has taken the run: then it says that its end isn't stored.
    """
    if receipt["what"] == "again" or receipt["where"] != "own":
        return False
    pid, at = receipt["pid"], receipt["t"]
    if pid in history.killed and (pid, "own") not in settled:
        return True
    unstored = any(n["pid"] == pid and n["store_error"] for n in run.all("told"))
    return unstored and (history.in_trouble(at, before=1.0) or history.was_away(pid, at, before=1.0))


def _intent(history: History, run: Run, receipt: Note, excused: Counter[str]) -> Found:
    """An id that wasn't known: the run that begins with it is born cancelled."""
    if run.status in (None, "CANCELLED") and not [n for n in run.all("start") if n["t"] > receipt["t"]]:
        return
    if history.in_trouble(receipt["t"], before=5.0):
        excused["cancelled before its start, which the broken database didn't record"] += 1
        return
    yield f"{receipt['who']} cancelled it before it was known; it began all the same, and ended {run.status}"


@rule
def first_reason_wins(history: History, run: Run, excused: Counter[str]) -> Found:
    """All receipts that have settled give the reason that is stored."""
    if run.stored is None or run.status != "CANCELLED":
        return
    for note in [*run.all("settled"), *run.all("again")]:
        if note["truth"] and note["reason"] != run.stored["reason"]:
            yield f"the receipt of {note['who']} says {note['reason']!r}, stored is {run.stored['reason']!r}"


@rule
def receipts_settle(history: History, run: Run, excused: Counter[str]) -> Found:
    """Whoever waits for the end of a run that was cancelled is told."""
    settled = {(n["pid"], n["where"]) for n in run.all("settled")}
    for note in run.all("receipt"):
        waits = note["outcome"] not in ("unknown",) and note["pid"] not in history.killed
        if waits and (note["pid"], note["where"]) not in settled:
            yield f"{note['who']} still waits for its end ({note['outcome']})"


@rule
def stays_cancelled(history: History, run: Run, excused: Counter[str]) -> Found:
    """A run that was cancelled and has settled starts no step, isn't taken up, and its record doesn't change."""
    all_settled = {(n["pid"], n["where"]) for n in run.all("settled")}
    ends = [n["t"] for n in run.all("settled") if n["truth"] and not _died_with_it(history, run, n, all_settled)]
    ends += [n["t"] for n in run.all("seen") if n["status"] == "CANCELLED"]
    if not ends:
        return
    first = min(ends)
    for note in run.notes:
        if note["t"] <= first:
            continue
        if note["what"] == "start" and history.was_away(note["pid"], note["t"]):
            excused["a step begun by a frozen worker as it woke"] += 1
        elif note["what"] == "start" or (note["what"] == "resumed" and note["since"] > first):
            late = note["t"] - first
            yield f"{note['who']} {note['what']}s {note.get('step', 'it')} {late:.3f} s after it had settled"
        elif note["what"] == "seen" and note["looked_at"] > first and note["status"] != "CANCELLED":
            yield f"seen as {note['status']} after it had settled as CANCELLED"


@rule
def finished_stays_finished(history: History, run: Run, excused: Counter[str]) -> Found:
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
                if history.was_away(note["pid"], note["t"]):
                    excused["a step begun by a frozen worker as it woke"] += 1
                else:
                    yield f"{note['who']} began {step} again, which was seen finished"


@rule
def followers_hear_all(history: History, run: Run, excused: Counter[str]) -> Found:
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


def _processes(history: History, excused: Counter[str]) -> Iterator[tuple[str, str]]:
    """Rules about processes and the database as a whole."""
    for pid, run in sorted(history.untold):
        yield "workers_tell", f"process {pid} took {run}, and never told its end"
    for note in history.of("wrong"):
        yield "database_is_sound", note["text"]
    for note in history.of("hangs"):
        yield "processes_end", f"{note['name']} didn't end when it was told to"
    for note in history.of("refused"):
        yield "runs_are_taken", f"{note['run']}: {note['error']}"
    for note in history.of("printed"):
        yield "nobody_complains", f"{note['name']} printed: {note['text']}"
    for note in history.of("log"):
        if note["trace"] or note["level"] in ("ERROR", "CRITICAL"):
            if _is_about_a_fault(history, note):
                excused["errors in the log that name an injected fault"] += 1
            else:
                yield "nobody_complains", f"{note['who']} logged: {note['text']} {note['trace'] or ''}"


def _is_about_a_fault(history: History, note: Note) -> bool:
    if note["trace"]:
        return False
    lost = "was taken over" in note["text"] or "works on the run" in note["text"] or "was cancelled by" in note["text"]
    if lost:
        return True  # that it was right to take the run, and that it told so, the other rules see
    unwritten = "could not be stored" in note["text"] or "can't be written" in note["text"]
    return unwritten and history.in_trouble(note["t"])
