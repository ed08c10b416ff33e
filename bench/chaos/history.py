"""What happened, read from the notes: all about each run, and when what was broken. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from bench.chaos.bounds import Span
from bench.chaos.plan import BEAT, LEASE

__all__ = ["FINAL", "LAPSE", "History", "Note", "Run"]

Note = dict[str, Any]
FINAL = ("CANCELLED", "COMPLETED", "ERROR")
#: Seconds for which a worker must be frozen, or the database away, before its lease may have run out. Faults that are
#: shorter excuse no loss of a run.
LAPSE = LEASE / 2


class Run:
    """What everybody noted of one run, in the order of time."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.notes: list[Note] = []

    @property
    def kind(self) -> str:
        """What it does: the end of its id."""
        return self.run_id.rpartition("-")[2]

    def all(self, *what: str) -> list[Note]:
        """Return the notes of these kinds."""
        return [note for note in self.notes if note["what"] in what]

    @property
    def stored(self) -> Note | None:
        """What the database said of it in the end."""
        found = self.all("stored")
        return found[-1] if found else None

    @property
    def status(self) -> str | None:
        """Its status then."""
        return self.stored["status"] if self.stored is not None else None

    @property
    def told(self) -> list[Note]:
        """The ends that its workers told and that count: not those of a worker which had lost it, and said so."""
        return [note for note in self.all("told") if note["source"] != "lease_lost" and not note["store_error"]]

    @property
    def accepted(self) -> bool:
        """Whether anybody could know that it had begun."""
        taken = any(note["outcome"] == "accepted" for note in self.all("receipt"))
        return taken or bool(self.all("seen", "start", "told", "stored"))

    def owners(self, until: float) -> list[int]:
        """Return the processes that have worked on it by then, the last one last."""
        return [note["pid"] for note in self.all("ordered", "resumed") if note["t"] <= until]

    def settled(self, receipt: Note) -> bool:
        """Whether that receipt settled with an end that its process didn't call unstored."""
        unstored = any(note["pid"] == receipt["pid"] and note["store_error"] for note in self.all("told"))
        who = receipt["pid"], receipt["where"]
        return not unstored and who in {(note["pid"], note["where"]) for note in self.all("settled")}


class History:
    """All notes."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.notes = sorted(notes, key=lambda note: note["t"])
        runs: dict[str, Run] = {}
        for note in self.notes:
            if "run" in note:
                runs.setdefault(note["run"], Run(note["run"])).notes.append(note)
        self.runs = runs
        self.killed = {n["child"]: Span(n["how"], n["since"], n["t"], n["child"]) for n in self.of("gone")}
        self.breaks, self.frozen = self._spans()

    @property
    def untold(self) -> set[tuple[int, str]]:
        """The workers that took a run, weren't killed, and haven't told its end; each with the run."""
        taken = {(n["pid"], n["run"]) for n in self.of("ordered", "resumed") if n["pid"] not in self.killed}
        return taken - {(n["pid"], n["run"]) for n in self.of("told", "refused")}

    def of(self, *what: str) -> list[Note]:
        """Return the notes of these kinds."""
        return [note for note in self.notes if note["what"] in what]

    def _spans(self) -> tuple[list[Span], dict[int, list[Span]]]:
        """Return when the database was broken, and when each process was frozen."""
        breaks: list[Span] = []
        frozen: dict[int, list[Span]] = defaultdict(list)
        begun: dict[Any, float] = {}
        for note in self.of("fault"):
            what, child = note["fault"], note["child"]
            if note["phase"] == "begins":
                begun[what, child] = note["t"]
            elif child is None:
                breaks.append(Span(what, begun.pop((what, child)), note["t"]))
            elif what.startswith("freeze"):
                frozen[child].append(Span(what, begun.pop((what, child)), note["t"], child))
        return breaks, frozen

    def broken(self, at: float, within: float, *kinds: str, before: float = 0.0) -> Span | None:
        """Return the fault of the database at that time, of one of these kinds; or the one that has just ended."""
        breaks = [one for one in self.breaks if one.kind in kinds or not kinds]
        return _last(one for one in breaks if one.begin - before <= at <= one.end + within)

    def lapsed(self, pid: int, at: float, within: float, before: float = 0.0) -> Span | None:
        """Return the fault through which a process may have been without a lease then, or just before.

        Parameters:
            within: seconds after its end in which the process finds that out.
            before: seconds before the fault in which what the process did may have been caught by it.
        """
        return _last(one for one in self.lapses(pid) if one.begin - before <= at <= one.end + within)

    def lapses(self, pid: int) -> list[Span]:
        """Return when a process may have been without a lease. Faults with no time for a heartbeat between are one."""
        joined: list[Span] = []
        for one in sorted([*self.frozen.get(pid, ()), *self.breaks], key=lambda one: one.begin):
            if joined and one.begin <= joined[-1].end + 2 * BEAT:
                last = joined.pop()
                one = Span(f"{last.kind}+{one.kind}", last.begin, max(last.end, one.end), pid)
            joined.append(one)
        return [one for one in joined if one.seconds >= LAPSE]


def _last(spans: Iterable[Span]) -> Span | None:
    found: Sequence[Span] = sorted(spans, key=lambda one: one.begin)
    return found[-1] if found else None
