"""Measure the cancel of the demo. `receipt_panel` renders the result, `--json` prints it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from desist.cancel.receipt import CancelRecord
from desist.cancel.scope import Outcome
from desist.cli.demo.workflow import DemoWorkflow
from desist.console.end_panel import ResultCounts
from desist.exceptions import ModelError

__all__ = ["CpuMeter", "DemoCancel", "DemoResult"]

#: Seconds within which the model must be idle after the cancel.
IDLE_TIMEOUT = 5.0


class DemoCancel:
    """Cancels the run, in the thread of the timer or the keyboard."""

    def __init__(self, demo: DemoWorkflow, run_id: str) -> None:
        self._demo, self._run_id = demo, run_id
        self.answered: float | None = None  #: seconds from the accepted request to the receipt

    def cancel(self, reason: str, by: str) -> None:
        """Cancel the run. Only the first request is measured."""
        begin = time.perf_counter()
        receipt = self._demo.workflow.cancel(self._run_id, reason=reason, by=by)
        if receipt.outcome is Outcome.accepted:
            self.answered = time.perf_counter() - begin


class CpuMeter:
    """Measures the CPU time of the local model: while it generates, and in the second after the cancel."""

    def __init__(self, demo: DemoWorkflow) -> None:
        self._demo = demo
        self._began, self._used_before = time.monotonic(), self._used()
        self._ended, self._used_then = self._began, self._used_before
        self.before: float | None = None  #: CPU seconds per second, while it generates
        self.after: float | None = None
        self.idle_after: float | None = None  #: seconds until the model was idle

    def _used(self) -> float | None:
        if self._demo.server is None:
            return None
        try:
            return self._demo.server.cpu_seconds()
        except ModelError:
            return None

    def stopped(self) -> None:
        """Record the CPU time at the terminal event."""
        self._ended, self._used_then = time.monotonic(), self._used()
        if self._used_then is not None and self._used_before is not None:
            self.before = (self._used_then - self._used_before) / max(self._ended - self._began, 0.01)

    def watch(self) -> None:
        """Measure the model for one second. Blocks."""
        if self._demo.server is None or self._used_then is None:
            return
        try:
            self.idle_after = asyncio.run(self._demo.server.wait_idle(timeout=IDLE_TIMEOUT))
        except TimeoutError:
            self.idle_after = None
        time.sleep(max(0.0, self._ended + 1.0 - time.monotonic()))
        used = self._used()
        self.after = None if used is None else used - self._used_then


@dataclass(kw_only=True, slots=True)
class DemoResult:
    """The end of one run of the demo, and its measurements."""

    demo: DemoWorkflow
    terminal: Any  #: the terminal event of the run
    read_at: float  #: when the terminal event was received; seconds since the epoch
    answered: float | None = None  #: seconds until `cancel()` returned; None for Ctrl-C
    meter: CpuMeter
    pieces: int  #: rendered pieces of text; for the local model about the number of tokens

    @property
    def record(self) -> CancelRecord | None:
        """The cancel record; None if the run was not cancelled."""
        record: CancelRecord | None = self.terminal.cancel if self.terminal.is_cancelled else None
        return record

    @property
    def counts(self) -> ResultCounts:
        """The content that the run kept."""
        content = self.terminal.content if self.terminal.is_cancelled else None
        return ResultCounts(content, getattr(self.terminal, "step_results", None) or [])

    @property
    def model_stopped(self) -> bool | None:
        """Whether the model has stopped; None if that can't be measured, on the machine of a provider."""
        script = self.demo.script
        if script is not None:  # a cancel may come before the first request of a step
            return len(script.requests) == script.cancelled + script.completed
        return None if self.demo.server is None else self.meter.idle_after is not None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values. Times `*_ms` are relative to the request, by the clock of the record."""
        terminal, record, counts = self.terminal, self.record, self.counts
        stored = self.demo.workflow.get_run(terminal.run_id)
        requested = record.requested_at if record is not None else None
        abandoned = [f"{item.kind} {item.name}" for item in record.abandoned] if record is not None else []
        status, stored_status = terminal.status.value, stored.status.value if stored is not None else None
        return {
            "model": self.demo.label,
            "scripted": self.demo.script is not None,
            "run_id": terminal.run_id,
            "status": status,
            "stored_status": stored_status,
            "error": getattr(terminal, "error", None),
            "source": record.source.value if record is not None else None,
            "reason": record.reason if record is not None else None,
            "by": record.by if record is not None else None,
            "requested_at": requested,
            "answered_ms": _ms(self.answered),
            "delivered_ms": _ms(_after(requested, record.delivered_at if record is not None else None)),
            "settled_ms": _ms(_after(requested, record.settled_at if record is not None else None)),
            "terminal_event_ms": _ms(_after(requested, self.read_at)),
            "upstream_closed": record.upstream_closed if record is not None else 0,
            "finished_steps": counts.finished,
            "interrupted_steps": counts.interrupted,
            "characters": counts.characters,
            "pieces": self.pieces,
            "abandoned": abandoned,
            "model_stopped": self.model_stopped,
            "model_idle_ms": _ms(self.meter.idle_after),  # after the last event, in steps of 20 ms
            "cpu_before": _round(self.meter.before),
            "cpu_after": _round(self.meter.after),
            "ok": status == stored_status == "CANCELLED" and self.model_stopped is not False and not abandoned,
        }


def _after(begin: float | None, at: float | None) -> float | None:
    return None if begin is None or at is None else at - begin


def _ms(value: float | None) -> float | None:
    return None if value is None else round(max(value, 0.0) * 1000, 3)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
