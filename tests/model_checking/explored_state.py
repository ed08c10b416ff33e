# ruff: noqa: RUF012 - a scenario is a table
"""A small set of real runs whose whole state can be taken down, put back, and told apart. See `explorer`."""

from __future__ import annotations

from typing import Any

from explored_transitions import Moves
from explorer_fakes import Deaf, Durable, Event, Ghost, Stepped, Story, Violation, Work

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned, CancelRecord
from desist.cancel.run_phase import BodyState, CleanupState, GraceState
from desist.cancel.status import RunStatus
from desist.run.execution.run import Run
from desist.runtime.timer_thread import Timer

LATER = 1e9  #: a time when every grace is over
_ANY = CancelReason(source=Source.parent, requested_at=0.0)


def has_channel(run: Run) -> bool:
    """Whether the run has a reader of its own."""
    return run.emitter.stream_owner is run.emitter


class World(Moves):
    """A fixed set of runs and everything that may happen to them next. Scenarios say which runs and what happens."""

    #: name -> (parent or None, bound, skip)
    runs_of: dict[str, tuple[str | None, bool, bool]] = {"R": (None, False, False)}
    content: dict[str, int] = {"R": 1}  #: how much each may emit
    threads_of: dict[str, str] = {}  #: work name -> run
    #: canceller -> (run, source, reach, force)
    cancellers: dict[str, tuple[str, Source, Any, bool]] = {}
    hooks = False  #: whether runs have hooks that clean up after a cancel
    reader_may_leave = True
    may_fail: tuple[str, ...] = ("R",)
    reads_along = True  #: the reader takes events at any time, and not only when the stream has ended
    late = True  #: whether bodies go on after their run has settled: a no-op that doubles the states of each run
    prompt: tuple[str, ...] = ()  #: runs whose bodies begin in the step that opens them

    def __init__(self) -> None:
        self.ghost = Ghost()
        self.clock = 0.0
        self._events: dict[tuple[str, str], Event] = {}
        self._reasons: dict[tuple[Any, ...], CancelReason] = {}
        self.works = {name: Work(name) for name in self.threads_of}
        self.runs: dict[str, Stepped] = {}
        Stepped.world = self
        for name, (parent, bound, skip) in self.runs_of.items():
            run = Stepped(
                Story(self, name),  # type: ignore[arg-type]
                run_id=name,
                store=self,  # type: ignore[arg-type]
                grace=1.0,
                parent=self.runs[parent] if parent else None,
                bound=bound,
            )
            run.scope.detached = skip
            if self.hooks:
                run.tasks.loop = Deaf()  # type: ignore[assignment]
            self.runs[name] = run
        ghost = self.ghost
        for name in self.runs:
            ghost.opened[name] = self.runs_of[name][0] is None
            ghost.began[name] = ghost.refused[name] = ghost.waiting[name] = ghost.stray[name] = False
            ghost.left[name] = self.content.get(name, 0)
            ghost.closing[name] = ghost.stored[name] = None
        ghost.threads = dict.fromkeys(self.threads_of, "")
        ghost.receipts = dict.fromkeys(self.cancellers)
        ghost.fix()

    # -- what stands in for the loop, the timer thread, the registry, the store

    def then(self, *step: Any) -> None:
        if step not in self.ghost.agenda:  # what is due already isn't due twice
            self.ghost.agenda.append(step)

    def call_at(self, due: float, action: Any) -> Any:
        """The timer thread: a grace may run out at any time, also after it was taken back: the timer may be late."""
        if self.clock == LATER and due <= LATER:
            raise Violation("a timer whose time has come sets itself anew: the timer thread would spin")
        self.ghost.agenda = [step for step in self.ghost.agenda if step != ("overrun", action.__self__.run.run_id)]
        self.then("overrun", action.__self__.run.run_id)
        return Timer(due, action)

    def add(self, run: Run) -> None:
        """The registry's part of opening."""

    def end(self, run: Run, status: RunStatus) -> None:
        if status is not self.ghost.stored[run.run_id]:
            raise Violation(f"{run.run_id} ended {status.value}, stored {self.ghost.stored[run.run_id]}")

    def save_run(self, stored: Any) -> Durable:
        return Durable(self, stored.run_id, stored.status)

    def monotonic(self) -> float:
        return self.clock

    def time(self) -> float:
        return 0.0

    def event(self, kind: str, name: str) -> Event:
        return self._events.setdefault((kind, name), Event(kind, name))

    # -- states

    def freeze(self) -> tuple[Any, ...]:
        if not self.late:
            self._forget_past()
        return (self.ghost.freeze(), tuple([self._freeze_run(run) for run in self.runs.values()]))

    def _forget_past(self) -> None:
        """What can't matter any more makes no states: the insides of settled runs, steps that will do nothing."""
        ghost = self.ghost
        for name, run in self.runs.items():
            if run.settled.is_set:
                scope = run.scope
                scope.body, scope.cleanup, scope.grace = BodyState.ended, CleanupState.none, GraceState.none
                scope.failed = False
                run.error, run.interruption.grace_deadline, run.interruption.forced = None, 0.0, False
                scope.work.clear()
                ghost.left[name], ghost.refused[name], ghost.began[name] = 0, False, True
                if run.record is not None:
                    run.record.abandoned.clear()
        ghost.agenda = [step for step in ghost.agenda if not self._idle(step)]

    def _idle(self, step: tuple[Any, ...]) -> bool:
        scope = self.runs[step[1]].scope
        if step[0] == "advance":
            return scope.finalizing
        return step[0] == "overrun" and all(below.status.is_final for below in scope.walk())

    def _freeze_run(self, run: Stepped) -> tuple[Any, ...]:
        scope, record, channel = run.scope, run.record, run.channel
        reason = scope.reason
        return (
            scope.status,
            reason and (reason.source, reason.text, reason.by),
            scope.parent is not None,
            tuple(sorted(scope.children)),
            tuple(sorted([work.name for work in scope.work])),
            scope.body,
            scope.failed,
            scope.grace,
            scope.end,
            record and (record.settled_at is not None, tuple([item.name for item in record.abandoned])),
            run.error is not None,
            run.body.output.status,
            run.settled.is_set,
            run.tasks.started,
            run.token.cancelled,
            run.interruption.grace_deadline,
            (scope.cleanup, run.interruption.forced),
            (tuple(channel._items), tuple(channel._held), channel.closed) if has_channel(run) else None,
        )

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.ghost.thaw(state[0])
        for run, frozen in zip(self.runs.values(), state[1], strict=True):
            self._thaw_run(run, frozen)

    def _thaw_run(self, run: Stepped, frozen: tuple[Any, ...]) -> None:
        scope = run.scope
        run.limits._timers.clear()
        (status, reason, adopted, children, works, body, failed, grace, end) = frozen[:9]
        (record, error, told, settled, delivered, token, due, more, queue) = frozen[9:]
        scope.status, scope.reason = status, self._reason(reason)
        parent = self.runs_of[run.run_id][0]
        scope.parent = self.runs[parent].scope if adopted and parent else None
        scope.children = {name: self.runs[name].scope for name in children}
        scope.work = {self.works[name] for name in works}
        scope.body, scope.failed, scope.grace, scope.end = body, failed, grace, end
        scope.cleanup, run.interruption.forced = more
        run.record = None
        if record is not None:
            assert scope.reason is not None
            run.record = CancelRecord.of(scope.reason)
            run.record.settled_at = 0.0 if record[0] else None
            run.record.abandoned = [Abandoned(name=name, kind="thread", since=0.0) for name in record[1]]
        run.error = RuntimeError("the body failed") if error else None
        run.body.output.status, run.body.output.cancel = told, run.record
        run.settled._set, run.tasks.started, run.interruption.grace_deadline = settled, delivered, due
        run.token._reason = (scope.reason or _ANY) if token else None
        if queue is not None:
            channel = run.channel
            channel._items.clear()
            channel._items.extend(queue[0])
            channel._held[:] = queue[1]
            channel._closed = queue[2]

    def _reason(self, key: tuple[Any, ...] | None) -> CancelReason | None:
        if key is None:
            return None
        if key not in self._reasons:
            self._reasons[key] = CancelReason(source=key[0], text=key[1], by=key[2], requested_at=0.0)
        return self._reasons[key]
