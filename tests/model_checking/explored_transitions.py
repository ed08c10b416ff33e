"""Everything that may happen to the runs of a world next, and doing it. See `explorer`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from explored_invariants import STOPPED, Invariants
from explorer_fakes import Event, Stepped, Violation

from desist.cancel.reason import CancelReason, Source
from desist.cancel.run_phase import BodyState, CleanupState
from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run.execution import run as driver
from desist.run.execution.finalizer import Finalizer
from desist.run.execution.run import Run
from desist.streams.channel import ChannelClosed

S = RunStatus
LATER = 1e9  #: a time when every grace is over


class Moves(Invariants):
    """The steps; a world brings what they need."""

    clock: float
    cancellers: dict[str, tuple[str, Source, Any, bool]]
    threads_of: dict[str, str]
    works: dict[str, Any]
    reads_along: bool
    reader_may_leave: bool
    late: bool
    may_fail: tuple[str, ...]
    prompt: tuple[str, ...]

    def event(self, kind: str, name: str) -> Event:
        """Return the one event of this meaning."""
        raise NotImplementedError

    # -- what may happen next

    def moves(self) -> Iterator[tuple[str, ...]]:
        """Every step that is possible now. The first word says of what sort it is."""
        ghost = self.ghost
        for step in set(ghost.agenda):
            yield ("overrun" if step[0] == "overrun" else "system", *step)
        for name, target in self.cancellers.items():
            if ghost.receipts[name] is None and ghost.opened[target[0]]:
                yield ("cancel", name)
        if ghost.reader == "reads":
            channel = self.runs["R"].channel
            if channel.closed or (channel._items and self.reads_along):
                yield ("reader", "get")
            if self.reader_may_leave:
                yield ("reader", "leave")
        for name, run in self.runs.items():
            if ghost.opened[name]:
                yield from self.body_moves(name, run)
            elif self.may_open(name):
                yield ("body", "open", name)
        for work, name in self.threads_of.items():
            if ghost.threads[work] == "runs":
                yield ("body", "work ends", work)
            elif ghost.threads[work] == "" and self.runs[name].scope.body is BodyState.running:
                yield ("body", "work starts", work)

    def may_open(self, name: str) -> bool:
        parent = self.runs_of[name][0]
        return parent is not None and self.runs[parent].scope.body is BodyState.running

    def body_moves(self, name: str, run: Stepped) -> Iterator[tuple[str, ...]]:
        ghost, scope = self.ghost, run.scope
        if run.settled.is_set and not self.late:
            return
        if scope.cleanup is CleanupState.running:
            yield ("body", "hooks end", name)
        if not ghost.began[name]:
            yield ("body", "begin", name)
            return
        if ghost.left[name]:
            yield ("body", "emit", name)  # also after its end: a task of its own, a thread
        if scope.body is not BodyState.running:
            return
        if self.may_complete(name):
            yield ("body", "complete", name)
        if name in self.may_fail:
            yield ("body", "fail", name)
        if run.tasks.started or ghost.refused[name]:
            yield ("body", "unwind", name)

    def may_complete(self, name: str) -> bool:
        return True

    # -- doing it

    def do(self, move: tuple[Any, ...]) -> None:
        sort, what, *rest = move
        if sort in ("system", "overrun"):
            self.ghost.agenda.remove(move[1:])
        before = [run.scope.status for run in self.runs.values()]
        getattr(self, "do_" + what.replace(" ", "_"))(*rest) if sort != "cancel" else self.do_cancel(what)
        for run, old in zip(self.runs.values(), before, strict=True):
            if run.scope.status is not old:
                self.check_move(run, old)
        self.check()

    def do_interrupt(self, name: str, hits: tuple[str, ...], force: bool, grace: float | None) -> None:
        Run.interrupt(self.runs[name], [self.runs[hit].scope for hit in hits], force, grace)

    def do_advance(self, name: str) -> None:
        Run.advance(self.runs[name])

    def do_conclude(self, name: str) -> None:
        Finalizer.finalize(self.runs[name].finalizer)

    def do_durable(self, name: str, status: RunStatus) -> None:
        self.ghost.stored[name] = status
        if self.ghost.waiting[name]:
            self.do_announce(name, (self.event(status.value, name),))

    def do_announce(self, name: str, events: tuple[Event, ...]) -> None:
        run, root = self.runs[name], self.runs["R"]
        if self.ghost.stored[name] is None:
            raise Violation(f"{name} tells its end before it is stored")
        for other, (parent, _, _) in self.runs_of.items():
            if parent == name and self.joined(other) and not self.runs[other].scope.status.is_final:
                raise Violation(f"{name} tells its end before its child {other}")
        Finalizer.settle(run.finalizer, list(events))
        told = [event for event in root.channel._items if event.run_id == name and event.kind == "CANCELLED"]
        if told and root.scope.status is S.cancelling:
            raise Violation(f"{name} is told cancelled before the root is stored")

    def do_overrun(self, name: str) -> None:
        self.clock = LATER
        try:
            self.runs[name].interruption.on_grace_expired()
        finally:
            self.clock = 0.0

    def do_cancel(self, who: str) -> None:
        name, source, reach, force = self.cancellers[who]
        reason = CancelReason(source=source, text=who, by=who, requested_at=0.0)
        receipt = self.runs[name].cancel(reason, reach=reach, force=force)
        self.ghost.receipts[who] = (receipt.outcome, receipt.run_id, receipt.reason)

    def do_get(self) -> None:
        ghost, channel = self.ghost, self.runs["R"].channel
        try:
            event = channel.get()
        except ChannelClosed:
            ghost.reader = "end"
            if not ghost.heard or ghost.heard[-1] != "R":
                raise Violation("the stream ended without the root's terminal event at its end") from None
            return
        if "R" in ghost.heard:
            raise Violation(f"{event} came after the terminal event")
        if event.is_terminal:
            if event.run_id in ghost.heard:
                raise Violation(f"a second terminal event of {event.run_id}")
            if event.kind != self.runs[event.run_id].scope.status.value:
                raise Violation(f"{event} was told, but it is {self.runs[event.run_id].scope.status.value}")
            ghost.heard.append(event.run_id)

    def do_leave(self) -> None:
        self.ghost.reader = "left"
        if not self.runs["R"].settled.is_set:
            self.runs["R"].stop(Source.consumer_closed, "the reader was closed")

    def do_open(self, name: str) -> None:
        run = self.runs[name]
        parent, bound, skip = self.runs_of[name]
        assert parent is not None
        self.ghost.stray[name] = self.runs[parent].scope.finalizing
        mark = driver._current.set(self.runs[parent])
        try:
            Run.open.__func__(lambda *_, **__: run, run.body, store=self, bound=bound, skip=skip)  # type: ignore[attr-defined]
        finally:
            driver._current.reset(mark)
        self.ghost.opened[name] = True
        if name in self.prompt:
            self.do_begin(name)

    def do_begin(self, name: str) -> None:
        """What `Run._main` does first."""
        run, ghost = self.runs[name], self.ghost
        ghost.began[name] = True
        above = run.scope.parent
        if run.scope.begin():
            if above is not None and above.status in STOPPED:
                raise Violation(f"{name} began under a cancelled run")
            run.body.output.status = S.running
        else:
            ghost.left[name] = 0

    def do_emit(self, name: str) -> None:
        run, ghost = self.runs[name], self.ghost
        ghost.left[name] -= 1
        counts = run.scope.status is S.running
        try:
            run.emit(self.event("content", name))
        except RunCancelled:
            ghost.refused[name] = True
            if counts:
                raise Violation(f"{name} runs, but its content was refused") from None
        else:
            if not counts:
                raise Violation(f"{name} is {run.scope.status.value}, but its content was put")

    def do_complete(self, name: str) -> None:
        self.runs[name]._end_body(None)

    def do_hooks_end(self, name: str) -> None:
        self.runs[name].finalizer.on_cleanup_done(None)

    def do_fail(self, name: str) -> None:
        self.runs[name]._end_body(RuntimeError("the body failed"))

    def do_unwind(self, name: str) -> None:
        run = self.runs[name]
        run._end_body(run._explain_cancellation(asyncio.CancelledError()))

    def do_work_starts(self, work: str) -> None:
        run = self.runs[self.threads_of[work]]
        counts = run.scope.status is S.running
        try:
            run.call_started(self.works[work])  # type: ignore[arg-type]
        except RunCancelled:
            self.ghost.threads[work] = "over"
        else:
            self.ghost.threads[work] = "runs"
            if not counts:
                raise Violation(f"{work} started after the decision")

    def do_work_ends(self, work: str) -> None:
        self.ghost.threads[work] = "over"
        self.runs[self.threads_of[work]].call_ended(self.works[work])  # type: ignore[arg-type]
