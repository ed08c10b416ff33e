"""Measure the cancel of the demo. `receipt` renders the result, `--json` prints it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome
from desist.cli.demo.workflow import DemoWorkflow
from desist.console.end_panel import ResultCounts
from desist.exceptions import ModelError

__all__ = ["CpuMeter", "DemoCancel", "StopMeasurement", "gather"]

#: Seconds within which the model must be idle after the cancel.
IDLE_TIMEOUT = 5.0


class DemoCancel:
    """Cancels the run, in the thread of the timer or the keyboard, and keeps the receipt."""

    def __init__(self, play: DemoWorkflow, run_id: str) -> None:
        self._play, self._run_id = play, run_id
        self.receipt: CancelReceipt | None = None
        self.answered: float | None = None  #: seconds from the accepted request to the receipt

    def cancel(self, reason: str, by: str) -> None:
        """Cancel the run. Only the first request is measured."""
        begin = time.perf_counter()
        receipt = self._play.workflow.cancel(self._run_id, reason=reason, by=by)
        if receipt.outcome is Outcome.accepted:
            self.answered, self.receipt = time.perf_counter() - begin, receipt


class CpuMeter:
    """Measures the CPU time of the local model: while it generates, and in the second after the cancel."""

    def __init__(self, play: DemoWorkflow) -> None:
        self._play = play
        self._began, self._used_before = time.monotonic(), self._used()
        self._ended, self._used_then = self._began, self._used_before
        self.before: float | None = None  #: CPU seconds per second, while it generates
        self.after: float | None = None
        self.idle_after: float | None = None  #: seconds until the model was idle

    def _used(self) -> float | None:
        if self._play.server is None:
            return None
        try:
            return self._play.server.cpu_seconds()
        except ModelError:
            return None

    def stopped(self) -> None:
        """Record the CPU time at the terminal event."""
        self._ended, self._used_then = time.monotonic(), self._used()
        if self._used_then is not None and self._used_before is not None:
            self.before = (self._used_then - self._used_before) / max(self._ended - self._began, 0.01)

    def watch(self) -> None:
        """Measure the model for one second. Blocks."""
        if self._play.server is None or self._used_then is None:
            return
        try:
            self.idle_after = asyncio.run(self._play.server.wait_idle(timeout=IDLE_TIMEOUT))
        except TimeoutError:
            self.idle_after = None
        time.sleep(max(0.0, self._ended + 1.0 - time.monotonic()))
        used = self._used()
        self.after = None if used is None else used - self._used_then


@dataclass(kw_only=True)
class StopMeasurement:
    """The measurements of one run of the demo. Times `*_ms` are relative to the request, by the clock of the record."""

    model: str
    scripted: bool
    run_id: str
    status: str | None  #: from the terminal event
    stored_status: str | None  #: from the store
    error: str | None = None
    source: str | None = None
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None
    answered_ms: float | None = None  #: cancel() returned; None for Ctrl-C
    delivered_ms: float | None = None  #: the calls were interrupted and their connections closed
    settled_ms: float | None = None  #: all work had stopped
    terminal_event_ms: float | None = None  #: the reader received the terminal event
    upstream_closed: int = 0
    finished_steps: int = 0
    interrupted_steps: int = 0
    characters: int = 0
    pieces: int = 0  #: rendered pieces of text; for the local model about the number of tokens
    abandoned: list[str] = field(default_factory=list)
    model_stopped: bool | None = None  #: None if it can't be measured, on a provider's machine
    model_idle_ms: float | None = None  #: after the last event, in steps of 20 ms
    cpu_before: float | None = None  #: CPU seconds per second while it wrote
    cpu_after: float | None = None  #: CPU seconds in the second after the last event
    ok: bool = False  #: cancelled and stored as such, the model not known to continue, nothing abandoned


def gather(
    play: DemoWorkflow, terminal: Any, seen_at: float, stop: DemoCancel, meter: CpuMeter, pieces: int
) -> StopMeasurement:
    """Return all measurements after the terminal event, received at `seen_at` (seconds since the epoch)."""
    stored = play.workflow.get_run(terminal.run_id)
    kept = ResultCounts(
        terminal.content if terminal.is_cancelled else None, getattr(terminal, "step_results", None) or []
    )
    facts = StopMeasurement(
        model=play.label,
        scripted=play.script is not None,
        run_id=terminal.run_id,
        status=terminal.status.value,
        stored_status=stored.status.value if stored else None,
        error=getattr(terminal, "error", None),
        finished_steps=kept.finished,
        interrupted_steps=kept.interrupted,
        characters=kept.characters,
        pieces=pieces,
        model_stopped=_stopped(play, meter),
        model_idle_ms=_ms(meter.idle_after),
        cpu_before=_round(meter.before),
        cpu_after=_round(meter.after),
    )
    if terminal.is_cancelled and terminal.cancel is not None:
        _add_cancel(facts, terminal.cancel, stop, seen_at)
    facts.ok = (
        facts.status == facts.stored_status == "CANCELLED" and facts.model_stopped is not False and not facts.abandoned
    )
    return facts


def _add_cancel(facts: StopMeasurement, record: CancelRecord, stop: DemoCancel, seen_at: float) -> None:
    facts.source, facts.reason, facts.by = record.source.value, record.reason, record.by
    facts.requested_at = record.requested_at
    facts.answered_ms = _ms(stop.answered)
    requested = record.requested_at
    if requested is not None:
        facts.delivered_ms = _ms(record.delivered_at - requested if record.delivered_at is not None else None)
        facts.settled_ms = _ms(record.settled_at - requested if record.settled_at is not None else None)
        facts.terminal_event_ms = _ms(seen_at - requested)
    facts.upstream_closed = record.upstream_closed
    facts.abandoned = [f"{item.kind} {item.name}" for item in record.abandoned]


def _stopped(play: DemoWorkflow, meter: CpuMeter) -> bool | None:
    if play.script is not None:
        return play.script.cancelled > 0
    return None if play.server is None else meter.idle_after is not None


def _ms(value: float | None) -> float | None:
    return None if value is None else round(max(value, 0.0) * 1000, 3)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
