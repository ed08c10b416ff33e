"""The controller: carries out a plan, waits until all is quiet, and asks the database about every run once more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.chaos.audit import Audit
from bench.chaos.child import Child
from bench.chaos.history import History, Note
from bench.chaos.notes import Notes, read_notes
from bench.chaos.plan import Ask, Fault, Plan, Start, is_phase
from bench.chaos.run_store import open_db
from bench.chaos.sites import Site
from desist.exceptions import StoreError
from desist.testing import LoopbackProvider, Reply

__all__ = ["Controller"]

#: Seconds after the last action within which everything must have ended.
QUIET = 60.0
#: How many processes follow; each run is followed by one of them.
FOLLOWERS = 2
#: Seconds in which followers hear the end of a run that was written just now by a process that read it.
HEARING = 3.0
#: Seconds that a process may take to close.
CLOSING = 40.0


class Controller:
    """Does what the plan says. All that happens stands in the notes."""

    def __init__(self, plan: Plan, site: Site, folder: Path, mistakes: Sequence[str] = ()) -> None:
        self._plan, self._site, self._folder, self._mistakes = plan, site, folder, tuple(mistakes)
        self.file = folder / "notes.jsonl"
        self._notes = Notes(self.file, "controller")
        self._workers: list[Child] = []
        self._given: dict[int, list[Start]] = {}  #: by process
        self._lock = threading.Lock()  #: held while an order is given, and while a worker is replaced
        self._asked: dict[int, int] = {}  #: how many cancels each process was told to ask for
        self._count = 0

    def run(self) -> None:
        """Carry out the plan."""
        with LoopbackProvider(Reply(tokens=25, token_interval=0.02), process=True) as provider:
            self._provider = provider.base_url
            self._desk = self._spawn("worker", "desk", "desk", *self._common(), provider.base_url)
            self._observer = self._spawn("observer", "observer", *self._common())
            self._followers = [self._follower(share) for share in range(FOLLOWERS)]
            self._workers = [self._worker(slot) for slot in range(self._plan.slots)]
            self._wait_ready()
            self._act()
            self._notes("acted")
            self._wait_quiet()
            self._close()
        Audit(self._site, self._folder, self._notes).ask([start.run_id for start in self._plan.starts])

    # -- processes

    def _spawn(self, program: str, name: str, *arguments: str) -> Child:
        child = Child(program, name, self._folder, *arguments)
        self._notes("spawned", name=name, child=child.process.pid)
        return child

    def _common(self) -> tuple[str, str]:
        return self._site.url, str(self.file)

    def _worker(self, slot: int) -> Child:
        self._count += 1
        name = f"worker{slot}.{self._count}"
        return self._spawn("worker", name, name, *self._common(), self._provider, *self._mistakes)

    def _follower(self, share: int) -> Child:
        name = f"follower{share}"
        return self._spawn("follower", name, name, *self._common(), str(share), str(FOLLOWERS))

    @property
    def _others(self) -> list[Child]:
        return [self._desk, self._observer, *self._followers]

    def _wait_ready(self) -> None:
        names = {child.name for child in [*self._workers, *self._others]}
        self._wait(lambda: names <= {note["who"] for note in read_notes(self.file) if note["what"] == "ready"}, 60.0)

    @staticmethod
    def _wait(done: Callable[[], bool], patience: float) -> bool:
        until = time.monotonic() + patience
        while not (there := done()) and time.monotonic() < until:
            time.sleep(0.2)
        return there

    # -- acting

    def _act(self) -> None:
        began = time.monotonic()
        faults = []
        for action in self._plan.actions:
            time.sleep(max(0.0, began + action.at - time.monotonic()))
            if isinstance(action, Fault):
                faults.append(threading.Thread(target=self._fault, args=(action,)))
                faults[-1].start()
            elif isinstance(action, Ask):
                self._ask(action)
            else:
                self._start(action)
        for thread in faults:
            thread.join()

    def _ask(self, ask: Ask) -> None:
        child = self._desk if ask.slot < 0 else self._workers[ask.slot]
        if child.tell("cancel", run=ask.run_id, where=ask.where):
            self._asked[child.process.pid] = self._asked.get(child.process.pid, 0) + 1

    def _start(self, start: Start) -> None:
        with self._lock:
            child = self._workers[start.slot]
            self._given.setdefault(child.process.pid, []).append(start)
            self._give(child, start)

    def _give(self, child: Child, start: Start) -> None:
        order = {"kind": start.kind, "on_crash": start.on_crash, "pace": start.pace}
        self._notes("order", run=start.run_id, given=child.tell("run", run=start.run_id, **order))

    def _kill(self, fault: Fault) -> None:
        """Kill a worker, in a phase if a run comes to that soon, and start another in its place."""
        old = self._workers[fault.slot]
        if is_phase(fault.what):
            old.tell("die", phase=fault.what.removeprefix("kill_"))
            old.wait(fault.seconds)
        since, pid = time.monotonic(), old.process.pid
        old.kill()
        dying = [note["t"] for note in read_notes(self.file) if note["what"] == "dying" and note["pid"] == pid]
        self._notes("gone", child=pid, how=fault.what if dying else "kill", since=dying[0] if dying else since)
        with self._lock:
            self._replace(fault.slot)

    def _replace(self, slot: int) -> None:
        """Start a worker, which is given what the one before had not come to read."""
        old, new = self._workers[slot], self._worker(slot)
        self._workers[slot] = new
        begun = {note["run"] for note in read_notes(self.file) if note["what"] == "ordered"}
        left = [start for start in self._given.pop(old.process.pid, []) if start.run_id not in begun]
        self._given.setdefault(new.process.pid, []).extend(left)
        for start in left:
            self._give(new, start)

    def _fault(self, fault: Fault) -> None:
        child = self._child(fault)
        pid = child.process.pid if child is not None else None
        self._notes("fault", fault=fault.what, phase="begins", child=pid)
        try:
            if fault.what == "kill_follower":
                self._followers[fault.slot].kill()
                self._followers[fault.slot] = self._follower(fault.slot)
            elif child is None:
                getattr(self._site, fault.what)(fault.seconds)
            elif fault.what == "kill" or is_phase(fault.what):
                self._kill(fault)
            else:
                child.freeze()
                time.sleep(fault.seconds)
                child.thaw()
        finally:
            self._notes("fault", fault=fault.what, phase="ends", child=pid)

    def _child(self, fault: Fault) -> Child | None:
        if fault.slot < 0:
            return None
        return (self._followers if fault.what == "kill_follower" else self._workers)[fault.slot]

    # -- the end

    def _wait_quiet(self) -> None:
        """Wait until all orders were carried out, and every run that the database knows has ended."""
        db = open_db(self._site.url)

        def quiet() -> bool:
            notes = list(read_notes(self.file))
            if not self._obeyed(notes):
                return False
            known = {note["run"] for note in notes if note["what"] in ("ordered", "start", "resumed")}
            try:
                found = [db.get_run(run) for run in known]
            except StoreError:  # the database is still coming back
                return False
            ended = all(output is None or output.status.is_final for output in found)
            return ended and not History(notes).untold

        try:
            self._notes("quiet", quiet=self._wait(quiet, QUIET))
            self._wait(self._is_heard, HEARING)
        finally:
            db.close()

    def _is_heard(self) -> bool:
        """Whether the followers have heard the end of every run. The verdict says so if they never do."""
        notes = list(read_notes(self.file))
        known = {note["run"] for note in notes if note["what"] == "ordered"}
        return known <= {note["run"] for note in notes if note["what"] == "heard" and note["ends"]}

    def _obeyed(self, notes: list[Note]) -> bool:
        """Whether the processes that live have begun all their runs, and have their cancels answered and settled."""
        begun = {note["run"] for note in notes if note["what"] == "ordered"}
        for child in [*self._workers, self._desk]:
            pid = child.process.pid
            over = [n for n in notes if n["pid"] == pid and (n["what"] in ("not_taken", "settled") or _is_unknown(n))]
            given = {start.run_id for start in self._given.get(pid, ())}
            if len(over) < self._asked.get(pid, 0) or not given <= begun:
                return False
        return True

    def _close(self) -> None:
        for child in (children := [*self._workers, *self._others]):
            if (code := child.process.poll()) is not None:
                self._notes("died", name=child.name, code=code)
            child.let_go()
        for child in children:
            if not child.close(CLOSING):
                self._notes("hangs", name=child.name)


def _is_unknown(note: Note) -> bool:
    """Whether it is a receipt that never settles: there was no such run."""
    return note["what"] == "receipt" and note["outcome"] == "unknown"
