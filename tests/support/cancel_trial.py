"""One run that is started, brought to a moment, and stopped from another thread; and what must hold afterwards.

A `Trial` runs in any of the four modes; `check_stopped` says what "cancelled" means.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from desist import Agent, Step, Workflow
from desist.cancel import CancelReceipt, Outcome, RunStatus, Source
from desist.cancel.registry import registry
from desist.run.events.codec import to_json
from desist.run.events.registry import output_from_dict
from desist.run.storage.store import MemoryStore, StoredRun

PATIENCE = 60.0  #: seconds after which something hangs, on a machine with twenty times its load too


@dataclass(frozen=True)
class Mode:
    """How a run is called."""

    asynchronous: bool
    stream: bool

    def __str__(self) -> str:
        return f"{'async' if self.asynchronous else 'sync'}-{'stream' if self.stream else 'whole'}"


MODES = [Mode(asynchronous, stream) for asynchronous in (False, True) for stream in (True, False)]


class Journal(MemoryStore):
    """A store that writes down what it is given as text at that moment, in memory and, if told, in a file."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self._path = path
        self._changed = threading.Condition()
        self.saved: list[tuple[str, RunStatus, str]] = []

    def save_run(self, run: StoredRun) -> None:
        line = to_json(run.output)
        with self._changed:
            self.saved.append((run.run_id, run.status, line))
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps({"run_id": run.run_id, "status": run.status.value, "kind": run.kind}) + "\n")
                    file.write(line + "\n")
            self._changed.notify_all()

    def load_run(self, run_id: str) -> StoredRun | None:
        for saved_id, status, line in reversed(list(self.saved)):
            if saved_id == run_id:
                output = output_from_dict(json.loads(line))
                return StoredRun(run_id=run_id, kind="", status=status, output=output, root_run_id=run_id)
        return None

    def last(self, run_id: str) -> dict[str, Any]:
        """Return what was written last of a run."""
        return next((json.loads(line) for saved, _, line in reversed(list(self.saved)) if saved == run_id), {})

    def statuses(self, run_id: str) -> list[RunStatus]:
        """Return every status that was written of a run."""
        return [status for saved, status, _ in list(self.saved) if saved == run_id]

    def wait_final(self, run_id: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until the end of a run is written, and return it."""
        with self._changed:
            done = self._changed.wait_for(lambda: any(s.is_final for s in self.statuses(run_id)), timeout)
        assert done, f"run {run_id} was not stored as ended: {self.statuses(run_id)}"
        return self.last(run_id)


class Trial:
    """One run of a workflow or agent in a thread of its own, in one of the modes."""

    def __init__(self, runner: Workflow | Agent, mode: Mode, *, stream_events: bool = True) -> None:
        self.runner, self.mode, self.stream_events = runner, mode, stream_events
        self.run_id = uuid.uuid4().hex
        self.events: list[Any] = []
        self.output: Any = None
        self.error: BaseException | None = None
        self.stored_when_shown: dict[str, Any] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def store(self) -> Any:
        return self.runner.db

    def start(self, asked: Any = "go", **options: Any) -> Trial:
        """Start it; returns at once."""
        options = {"run_id": self.run_id, "stream": self.mode.stream, **options}
        if self.mode.stream:
            options["stream_events"] = self.stream_events
        self._thread = threading.Thread(target=self._work, args=(asked, options), name="trial", daemon=True)
        self._thread.start()
        return self

    def _work(self, asked: Any, options: dict[str, Any]) -> None:
        try:
            if self.mode.asynchronous:
                asyncio.run(self._read_async(asked, options))
            elif self.mode.stream:
                for event in self.runner.run(asked, **options):
                    self._see(event)
            else:
                self.output = self.runner.run(asked, **options)
        except BaseException as error:
            self.error = error

    async def _read_async(self, asked: Any, options: dict[str, Any]) -> None:
        if self.mode.stream:
            async for event in self.runner.arun(asked, **options):
                self._see(event)
        else:
            self.output = await self.runner.arun(asked, **options)

    def _see(self, event: Any) -> None:
        if event.is_cancelled and self.stored_when_shown is None and isinstance(self.store, Journal):
            self.stored_when_shown = self.store.last(self.run_id)
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_text(self, pieces: int) -> None:
        """Wait until the reader has seen so many pieces of text; in the modes without a reader, don't."""
        if self.mode.stream:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self.texts()) >= pieces, PATIENCE), self.events

    def texts(self) -> list[str]:
        return [event.content for event in self.events if event.event == "RunContent"]

    def child_id(self) -> str:
        """Return the id of the one run below this one that is live."""
        [child] = [run for run in registry.live() if run.root.run_id == self.run_id and run.run_id != self.run_id]
        return child.run_id

    def cancel(self, by_id: str = "root", **how: Any) -> CancelReceipt:
        """Cancel it by its own id or by the id of its agent's run."""
        run_id = self.run_id if by_id == "root" else self.child_id()
        return self.runner.cancel(run_id, **{"reason": "enough", "by": "me", **how})

    def finish(self, timeout: float = PATIENCE) -> Trial:
        """Wait until whoever called `run` has it back."""
        assert self._thread is not None
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"{self.mode}: still running {timeout} s later; saw {self.events}"
        if self.output is None and self.error is None and isinstance(self.store, Journal):
            self.output = self.store.load_run(self.run_id).output
        return self


def stop_at(trial: Trial, moment: Callable[[], object], by_id: str = "root", **how: Any) -> CancelReceipt:
    """Wait for the moment, cancel, and wait for the end."""
    moment()
    receipt = trial.cancel(by_id, **how)
    assert receipt.wait(PATIENCE), f"not settled {PATIENCE} s later: {receipt}"
    trial.finish()
    return receipt


def check_stopped(trial: Trial, receipt: CancelReceipt, *, reason: str = "enough", by: str = "me") -> None:
    """Assert all that the promise says of a run that was cancelled, whatever it was doing."""
    assert trial.error is None, trial.error
    assert receipt and receipt.outcome is Outcome.accepted
    assert (receipt.status, receipt.run_id) == (RunStatus.cancelled, trial.run_id)
    assert (receipt.source, receipt.reason, receipt.by) == (Source.user, reason, by)
    assert trial.output.status is RunStatus.cancelled and trial.output.is_cancelled
    check_record(trial.output.cancel, reason=reason, by=by)
    statuses = trial.store.statuses(trial.run_id)
    assert statuses.count(RunStatus.cancelled) == 1 and statuses[-1] is RunStatus.cancelled, statuses
    assert trial.store.last(trial.run_id) == json.loads(to_json(trial.output))
    again = trial.runner.cancel(trial.run_id, reason="another", by="somebody")
    assert again and again.outcome is Outcome.already_cancelled and again == receipt
    if trial.mode.stream:
        check_story(trial)


def check_record(record: Any, *, reason: str | None, by: str | None, source: Source = Source.user) -> None:
    """The record of a cancel names who asked, why and when."""
    assert (record.source, record.reason, record.by) == (source, reason, by)
    assert record.requested_at <= record.delivered_at <= record.settled_at <= time.time()


def check_story(trial: Trial) -> None:
    """One terminal event a run, the root's last; nothing begins or speaks after the first "cancelled"."""
    terminal = [event.run_id for event in trial.events if event.is_terminal]
    assert len(terminal) == len(set(terminal)), trial.events
    last = trial.events[-1]
    assert last.is_terminal and last.is_cancelled and last.run_id == trial.run_id, trial.events
    assert last.status is RunStatus.cancelled and last.reason == trial.output.cancel.reason
    first = next(index for index, event in enumerate(trial.events) if event.is_cancelled)
    late = [e.event for e in trial.events[first:] if e.is_content or e.event.endswith("Started")]
    assert late == []
    assert trial.stored_when_shown == trial.store.last(trial.run_id)


def three_steps(middle: Step, journal: Journal, never: list[str]) -> Workflow:
    """Return a workflow that does something, comes to `middle`, and must not come to the last step."""
    first = Step("first", executor=lambda given: "first is done")
    last = Step("never", executor=lambda given: never.append("the step after it ran"))
    return Workflow("Three", steps=[first, middle, last], db=journal)


def check_three(trial: Trial, never: list[str], partial: Callable[[str], bool] = lambda text: text == "") -> None:
    """The first step is kept as done, the middle one is marked with what it said, the last one never began."""
    first, middle = trial.output.step_results
    first, middle = (vars(step) if not isinstance(step, dict) else step for step in (first, middle))
    assert (first["step_name"], first["content"], first["success"]) == ("first", "first is done", True)
    assert not first.get("cancelled")
    assert (middle["success"], middle["cancelled"]) == (False, True)
    assert partial(middle.get("content") or ""), middle
    assert never == []
