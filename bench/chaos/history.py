"""What happened, read from the notes: all about each run, and when what was broken. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

__all__ = ["FINAL", "SLACK", "History", "Note", "Run"]

Note = dict[str, Any]
FINAL = ("CANCELLED", "COMPLETED", "ERROR")
#: Seconds after a fault of the database in which its effects may still be felt, and after a worker has woken in which
#: it may not know yet what it missed. It looks at once, but so does everything else of it.
SLACK = 3.0


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


class History:
    """All notes."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.notes = sorted(notes, key=lambda note: note["t"])
        runs: dict[str, Run] = {}
        for note in self.notes:
            if "run" in note:
                runs.setdefault(note["run"], Run(note["run"])).notes.append(note)
        self.runs = runs
        self.killed = {n["child"]: n["t"] for n in self._faults("kill", phase="begins")}
        self._troubles, self._frozen = self._spans()

    @property
    def untold(self) -> set[tuple[int, str]]:
        """The workers that took a run, weren't killed, and haven't told its end; each with the run."""
        taken = {(n["pid"], n["run"]) for n in self.of("ordered", "resumed") if n["pid"] not in self.killed}
        return taken - {(n["pid"], n["run"]) for n in self.of("told", "refused")}

    def of(self, *what: str) -> list[Note]:
        """Return the notes of these kinds."""
        return [note for note in self.notes if note["what"] in what]

    def _faults(self, fault: str, phase: str) -> list[Note]:
        return [n for n in self.of("fault") if n["fault"] == fault and n["phase"] == phase]

    def _spans(self) -> tuple[list[tuple[float, float]], dict[int, list[tuple[float, float]]]]:
        """Return when the database was broken, and when each process was frozen."""
        troubles: list[tuple[float, float]] = []
        frozen: dict[int, list[tuple[float, float]]] = defaultdict(list)
        begun: dict[Any, float] = {}
        for note in self.of("fault"):
            key = note["fault"], note["child"]
            if note["phase"] == "begins":
                begun[key] = note["t"]
            elif note["child"] is None:
                troubles.append((begun.pop(key), note["t"]))
            elif note["fault"].startswith("freeze"):
                frozen[note["child"]].append((begun.pop(key), note["t"]))
        return troubles, frozen

    def in_trouble(self, at: float, before: float = 0.0) -> bool:
        """Whether the database was broken then, or a moment ago; or is going to be within `before` seconds."""
        return any(begin - before <= at <= end + SLACK for begin, end in self._troubles)

    def was_away(self, pid: int, at: float, before: float = 0.0) -> bool:
        """Whether a process was frozen, or had just woken: it may not know then what had happened."""
        return any(begin - before <= at <= end + SLACK for begin, end in self._frozen.get(pid, []))
