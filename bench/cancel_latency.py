"""A1-A12: how fast a run stops, in each place where it can wait.

For each scene: the run is read by one thread (`run`) or on one loop (`arun`); when it is where it should be, another
thread cancels it. Measured from just before `cancel()`: its return, the terminal event in the reader's hand, and the
end of the connection as the provider saw it, or of the work as the tool saw it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from itertools import chain

from bench.machine import Wakes
from bench.scenario import Scene, model_scenes
from bench.statistics import Spread, spread
from bench.table import Figure, Table
from bench.tools import code_scenes

__all__ = ["measure", "stops"]

COLUMNS = ["the run is waiting for / in", "n", "cancel()", "terminal", "", "gone", "", "tokens after", "", "control"]
QUICK = 8


@dataclass(slots=True)
class Stops:
    """What was seen, in milliseconds."""

    call: list[float] = field(default_factory=list)
    terminal: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    wasted: list[int] = field(default_factory=list)


class _Consumer:
    """Reads one run and notes when its terminal event came."""

    def __init__(self, scene: Scene, run_id: str, face: str) -> None:
        self._scene, self._run_id = scene, run_id
        self.told_at = 0.0
        self.status = ""
        target = self._read if face == "run" else lambda: asyncio.run(self._aread())
        self._thread = threading.Thread(target=target)
        self._thread.start()

    def _read(self) -> None:
        workflow = self._scene.workflow
        if not self._scene.stream:
            self._told(workflow.run("go", run_id=self._run_id).status)
            return
        for event in workflow.run("go", stream=True, run_id=self._run_id):
            if event.is_terminal:
                self._told(event.status)

    async def _aread(self) -> None:
        workflow = self._scene.workflow
        if not self._scene.stream:
            self._told((await workflow.arun("go", run_id=self._run_id)).status)
            return
        async for event in workflow.arun("go", stream=True, run_id=self._run_id):
            if event.is_terminal:
                self._told(event.status)

    def _told(self, status: str) -> None:
        self.told_at, self.status = time.monotonic(), status

    def join(self) -> None:
        self._thread.join()
        if self.status != "CANCELLED":
            raise RuntimeError(f"{self._scene.name}: the run ended {self.status or 'without a terminal event'}")


def _stop_once(scene: Scene, run_id: str, face: str, seen: Stops) -> None:
    scene.before()
    consumer = _Consumer(scene, run_id, face)
    scene.arrive()
    began = time.monotonic()
    receipt = scene.workflow.cancel(run_id)
    answered = time.monotonic()
    if not receipt:
        raise RuntimeError(f"{scene.name}: {receipt}")
    consumer.join()
    gone = scene.gone()
    wasted = scene.wasted(began)
    seen.call.append((answered - began) * 1e3)
    seen.terminal.append((consumer.told_at - began) * 1e3)
    if gone is not None:
        seen.gone.append((gone - began) * 1e3)
    if wasted is not None:
        seen.wasted.append(wasted)


def stops(scene: Scene, face: str, repeats: int) -> Stops:
    """Cancel `repeats` runs of a scene that was entered, read through `run` or `arun`; return what was seen."""
    seen = Stops()
    _stop_once(scene, f"{face} warm", face, Stops())
    for number in range(repeats):
        _stop_once(scene, f"{face} {number}", face, seen)
    return seen


def _judged(name: str, found: Spread | None, target: float | None) -> tuple[Figure | None, list[str]]:
    if found is None:
        return None, ["", ""]
    figure = Figure(name, found.p99, "ms", target, note=f"p50/p99/worst {found}")
    return figure, [str(found), figure.verdict]


def _row(table: Table, scene: Scene, face: str, seen: Stops) -> None:
    name = f"{scene.name}, {face}()"
    call, terminal, gone = spread(seen.call), spread(seen.terminal), spread(seen.gone)
    told, told_cells = _judged(f"{name}: cancel to terminal, p99", terminal, scene.terminal_ms)
    ended, ended_cells = _judged(f"{name}: cancel to gone, p99", gone, scene.gone_ms)
    most = Figure(f"{name}: tokens after", max(seen.wasted, default=0), "", scene.tokens_after)
    wasted = [f"{most.value:.0f}", most.verdict] if seen.wasted else ["", ""]
    table.figures += [figure for figure in (told, ended, most if seen.wasted else None) if figure is not None]
    table.rows.append([name, str(len(seen.call)), str(call), *told_cells, *ended_cells, *wasted, str(Wakes.now(50))])


def measure(*, quick: bool) -> list[Table]:
    """Measure every scene, read by a thread and on a loop."""
    table = Table("A1-A12: from cancel() to the end, ms, p50/p99/worst (targets: p99)", columns=COLUMNS)
    for scene in chain(model_scenes(), code_scenes()):
        with scene:
            for face in ("run", "arun"):
                repeats = min(QUICK, scene.repeats // 4) if quick else scene.repeats
                _row(table, scene, face, stops(scene, face, repeats))
    return [table.close()]
