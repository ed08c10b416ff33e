"""The plan: which runs start when, which are cancelled when and from where, which faults happen when. Pure.

A function of its arguments and nothing else: the same seed gives the same plan. What the machine makes of it, the
order in which threads and processes come to their turn, doesn't repeat.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from bench.chaos.phases import PHASES

__all__ = ["BEAT", "KINDS", "LEASE", "PHASE_WAIT", "TOTALS", "Ask", "Fault", "Plan", "Start", "is_phase", "make_plan"]

#: Seconds for which the harness's workers are believed to live, and between two times that they say so.
LEASE, BEAT = 3.0, 0.4
#: Seconds that a short fault lasts at most: after it a heartbeat comes in time, even from a slow machine.
SHORT = 1.2
#: Seconds for which a worker that is to die in a phase waits for a run to come to it; then it is killed where it is.
PHASE_WAIT = 2.0
#: How often each step of a kind of run is begun if nothing happens to it; what isn't here isn't a function step.
TOTALS: dict[str, dict[str, int]] = {
    "quick": {"one": 1, "two": 1, "three": 1, "four": 1},
    "stream": {"before": 1, "after": 1},
    "parallel": {"left": 1, "middle": 1, "right": 1, "round": 3},
    "tool": {"after": 1},
    "deaf": {"before": 1, "deaf": 1, "after": 1},
}
KINDS = tuple(TOTALS)
#: From where a run is cancelled, and how often that is chosen.
_PLACES = {"own": 4, "desk": 5, "before": 1, "twice": 3, "after": 2}
#: Faults of workers, and those of each database; how often each is chosen.
_WORKERS = {"kill": 4, "freeze_short": 3, "freeze_long": 4, "kill_follower": 2}
_WORKERS |= {f"kill_{phase}": 1 for phase in PHASES}
_DATABASES = {
    "sqlite": {"full": 3, "locked": 3},
    "postgres": {"restart": 2, "terminate": 3, "freeze_server": 2},
}


@dataclass(frozen=True, slots=True)
class Start:
    """A run is started: `at` seconds after the beginning, in the worker of this slot."""

    at: float
    run_id: str
    kind: str
    slot: int
    on_crash: str
    pace: float  #: seconds that each of its steps takes


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks to cancel a run. Slot -1 is the desk, a process that works on no runs and is spared."""

    at: float
    run_id: str
    slot: int
    where: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks, for so many seconds. Slot -1: it isn't about a worker."""

    at: float
    what: str
    slot: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is going to be done, in the order of time."""

    seed: int
    db: str
    slots: int
    starts: tuple[Start, ...]
    asks: tuple[Ask, ...]
    faults: tuple[Fault, ...]
    spared: tuple[str, ...] = ()  #: faults that this machine can't make

    @property
    def actions(self) -> list[Start | Ask | Fault]:
        """All that is to be done, in its order."""
        return sorted([*self.starts, *self.asks, *self.faults], key=lambda action: action.at)

    @property
    def mark(self) -> str:
        """A short name of this plan: two with the same mark are the same."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:12]


def is_phase(fault: str) -> bool:
    """Whether a fault kills a worker in a named phase."""
    return fault.removeprefix("kill_") in PHASES


def make_plan(db: str, *, seed: int, runs: int, seconds: float, slots: int = 3, spared: tuple[str, ...] = ()) -> Plan:
    """Return the plan of a seed.

    Parameters:
        db: "sqlite" or "postgres".
        runs: how many are started, over `seconds` seconds.
        slots: how many workers there are at a time.
        spared: faults that this machine can't make, such as "full" without a file system of its own.
    """
    chance = random.Random(f"{db}/{seed}/{runs}/{seconds:g}")
    starts = [_start(chance, number, seconds * number / runs, slots, seed) for number in range(runs)]
    asks = [ask for start in starts for ask in _asks(chance, start, slots)]
    faults = [fault for fault in _faults(chance, db, seconds, slots) if fault.what not in spared]
    return Plan(seed, db, slots, tuple(starts), tuple(asks), tuple(faults), spared)


def _start(chance: random.Random, number: int, at: float, slots: int, seed: int) -> Start:
    kind = chance.choices(KINDS, (4, 3, 3, 3, 2))[0]
    on_crash = chance.choice(("resume", "resume", "mark"))
    pace = round(chance.uniform(0.02, 0.6), 3)
    return Start(round(at, 3), f"s{seed}-{number:04}-{kind}", kind, chance.randrange(slots), on_crash, pace)


def _asks(chance: random.Random, start: Start, slots: int) -> Iterator[Ask]:
    if chance.random() > 0.6:
        return
    where = chance.choices(list(_PLACES), list(_PLACES.values()))[0]
    at = {"before": start.at - 0.3, "after": start.at + 4.0}.get(where, start.at + chance.uniform(0.0, 1.5))
    at = max(0.0, round(at, 3))
    other = (start.slot + 1) % slots
    if where == "own":
        yield Ask(at, start.run_id, start.slot, where)
    else:
        yield Ask(at, start.run_id, -1, where)
    if where == "twice":
        yield Ask(at, start.run_id, other, where)


def _faults(chance: random.Random, db: str, seconds: float, slots: int) -> Iterator[Fault]:
    """One after the other where they are about the same thing: a worker, the database."""
    choices = {**_WORKERS, **_DATABASES[db]}
    free: dict[object, float] = {}
    at = 1.0
    while (at := at + chance.expovariate(0.75)) < seconds + 2.0:
        what = chance.choices(list(choices), list(choices.values()))[0]
        slot = chance.randrange(2 if what == "kill_follower" else slots) if what in _WORKERS else -1
        long = {
            "kill": 0.0,
            "freeze_short": chance.uniform(0.1, SHORT),
            "freeze_long": LEASE + chance.uniform(1, 3),
        }
        lasts = 0.0 if "kill" in what else round(long.get(what, chance.uniform(0.3, SHORT)), 3)
        lasts = PHASE_WAIT if is_phase(what) else lasts
        about = (slot, what == "kill_follower")
        if at >= free.get(about, 0.0):
            free[about] = at + lasts + 1.0
            yield Fault(round(at, 3), what, slot, lasts)
