"""`python -m bench.soak [--seconds 600]`: mixed load for a long time; ends with 1 if anything was lost or left over.

Threads start runs of every kind of work that can be stopped and end them in every way: cancelled by id at a random
moment, left by their reader, timed out. Every report shows what the process holds; at the end it must hold what it
held at the start.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import random
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil

from bench.statistics import spread
from bench.thread_interrupts import Kind, kinds
from desist.agent import Agent
from desist.calls import thread_pool as worker
from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel import RunStatus
from desist.cancel.registry import registry
from desist.testing import Census, Gate, ScriptedModel, census
from desist.workflow import Step, StepInput, Workflow

__all__ = ["Load", "main"]

PATIENCE = 10.0  #: seconds after which a run is lost
USERS = 4  #: threads that start and end runs
REPORT = 30.0  #: seconds between two reports


@dataclass(slots=True)
class Tally:
    """What was counted since the last report, and what went wrong since the start."""

    runs: int = 0
    times: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Load:
    """The users."""

    def __init__(self, works: list[Kind]) -> None:
        self._works = works
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.tally = Tally()

    def run(self, seconds: float) -> None:
        """Load for so long, with a report now and then."""
        users = [threading.Thread(target=self._use, args=(seed,), name=f"user-{seed}") for seed in range(USERS)]
        for user in users:
            user.start()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(REPORT, left))
            self._report()
        self._over.set()
        for user in users:
            user.join(2 * PATIENCE)
            if user.is_alive():
                self.tally.wrong.append(f"{user.name} hangs")

    def _report(self) -> None:
        with self._lock:
            runs, times = self.tally.runs, self.tally.times
            self.tally.runs, self.tally.times = 0, []
        process = psutil.Process()
        found = spread(times)
        print(
            f"{time.strftime('%H:%M:%S')} {runs} runs; cancel to end {found} ms; {threading.active_count()} threads, "
            f"{process.num_fds()} files, {process.memory_info().rss >> 20} MB, {len(registry.live())} live, "
            f"{len(abandoned_threads())} abandoned, {len(process.children())} children, wrong: {len(self.tally.wrong)}",
            flush=True,
        )

    def _use(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._over.is_set():
            try:
                took = self._one(chance)
            except Exception as error:
                with self._lock:
                    self.tally.wrong.append(f"{type(error).__name__}: {error}")
                continue
            with self._lock:
                self.tally.runs += 1
                if took is not None:
                    self.tally.times.append(took)

    def _one(self, chance: random.Random) -> float | None:
        """Do one run and end it in some way; return the milliseconds from a cancel to the last event."""
        workflow, ends_alone = self._workflow(chance)
        way = chance.choice(("cancel", "cancel", "close", "timeout", "force"))
        after = chance.random() * 0.02
        may_end = {RunStatus.cancelled, RunStatus.completed} if ends_alone else {RunStatus.cancelled}
        if way == "timeout":
            output = workflow.run("go", timeout=0.001 + after)
            return self._check(output.status in may_end, f"a timeout ended {output.status}")
        reader = workflow.run("go", stream=True)
        time.sleep(after)
        if way == "close":
            reader.close()
            output = workflow.get_run(reader.run_id)
            return self._check(output is not None and output.status in may_end, "left and not cancelled")
        began = time.monotonic()
        receipt = workflow.cancel(reader.run_id, force=way == "force")
        errors = [step.error for step in getattr(workflow.get_run(reader.run_id), "step_results", [])]
        self._check(receipt.wait(PATIENCE) and receipt.status in may_end, f"not settled: {receipt} {errors}")
        last = [None, *reader][-1]
        self._check(last is not None and last.is_cancelled == bool(receipt), f"{receipt}, but the last event is {last}")
        return (time.monotonic() - began) * 1e3

    def _workflow(self, chance: random.Random) -> tuple[Workflow, bool]:
        """Return one, and whether it ends by itself after a while."""
        if chance.random() < 0.25:
            return Workflow("soak", steps=[Agent(ScriptedModel([["some ", "text ", Gate()]]), name="A")]), False
        kind = chance.choice(self._works)

        def work(_: StepInput) -> None:
            kind.work()

        work.__name__ = kind.name  # what is left over at the end is called so
        return Workflow("soak", steps=[Step(kind.name, executor=work, max_retries=0)]), kind.out_ms is None

    @staticmethod
    def _check(right: bool, words: str) -> None:
        if not right:
            raise RuntimeError(words)


def _settle(before: Census) -> list[str]:
    """Wait until idle threads have ended; return what is left over."""
    end = time.monotonic() + 30
    while True:
        gc.collect()
        now = census()
        loops = now.names["threads"].count("desist-user-loop") - before.names["threads"].count("desist-user-loop")
        allowed = {"threads": loops, "fds": 4 * loops, "sockets": 2 * loops, "tasks": 0, "children": 0}
        left = [
            f"{kind}: {getattr(before, kind)} before, {getattr(now, kind)} after: {now.names[kind]}"
            for kind, more in allowed.items()
            if getattr(now, kind) > getattr(before, kind) + more
        ]
        left += [f"live: {run.run_id}" for run in registry.live()]
        left += [f"abandoned: {work.name}, {work.stack()}" for work in abandoned_threads()]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.2)


def main() -> int:
    """Load, report, compare."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long; default: 600")
    seconds: float = parser.parse_args().seconds
    logging.getLogger("desist").addHandler(logging.NullHandler())
    worker.IDLE = 1.0  # so that idle threads are gone soon after the end
    with contextlib.ExitStack() as stack:
        load = Load(kinds(stack))
        Workflow("warm", steps=[lambda _: None]).run("go")
        load._one(random.Random(0))
        time.sleep(3 * worker.IDLE)
        before = census()
        load.run(seconds)
        wrong = load.tally.wrong + _settle(before)
    for line in wrong[:20]:
        print("WRONG", line)
    print(f"{seconds:g} s; {'nothing lost, nothing left over' if not wrong else f'{len(wrong)} things went wrong'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
