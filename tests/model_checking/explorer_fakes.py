"""What the explorer puts in the place of the loop, the timer thread, the registry, the store and the bodies.

`Stepped` is the real driver; it changes only *when*: wherever the driver lets go of its lock and calls on, the call
is put on the world's agenda and becomes a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from desist.cancel.receipt import Abandoned
from desist.cancel.status import RunStatus
from desist.run.execution.run import Run

if TYPE_CHECKING:
    from explored_state import World

S = RunStatus


class Violation(Exception):
    """An invariant doesn't hold."""


class Event:
    """An event; one object for each meaning, so that equal states have equal queues."""

    __slots__ = ("event_at", "event_index", "is_content", "is_terminal", "kind", "run_id")

    def __init__(self, kind: str, run_id: str) -> None:
        self.kind, self.run_id = kind, run_id
        self.is_content, self.is_terminal = kind == "content", kind in ("CANCELLED", "COMPLETED", "ERROR")
        self.event_index: int | None = None
        self.event_at: float | None = None

    def __repr__(self) -> str:
        return f"{self.run_id}.{self.kind}"


class Work:
    """A blocking call of a run."""

    interrupt_mode = "auto"
    shield_deadline = kill_deadline = 0.0

    def __init__(self, name: str) -> None:
        self.name = name

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """It ends when the explorer says so."""

    def shorten_grace(self, grace: float) -> None:
        """The same."""

    def abandon(self) -> list[Abandoned]:
        return [Abandoned(name=self.name, kind="thread")]


class Story:
    """A body, as far as the driver asks it."""

    kind = "agent"
    has_reader = True
    first_event_index = 0

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.cleanup_hooks = None
        self.output = SimpleNamespace(status=S.pending, cancel=None, session_id=None, user_id=None)

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        if self.world.ghost.closing[self.name] is not None:
            raise Violation(f"{self.name} concludes twice")
        self.world.ghost.closing[self.name] = status
        return [self.world.event(status.value, self.name)]

    def describe_activity(self) -> str:
        return self.name

    def is_visible(self, event: Event) -> bool:
        return True


class Stepped(Run):
    """The real driver, whose calls outside of the lock are steps of their own."""

    world: World

    def __init__(self, body: Any, **options: Any) -> None:
        super().__init__(body, **options)
        then, name = self.world.then, self.run_id

        self.finalizer.run_cleanup = lambda: None  # type: ignore[method-assign]  # hooks end when the explorer says so
        self.finalizer.finalize = lambda: then("conclude", name)  # type: ignore[method-assign]
        self.finalizer.settle = lambda events: then("announce", name, tuple(events))  # type: ignore[method-assign]
        self.ownership.confirm_end = lambda: then("ask", name)  # type: ignore[method-assign]

    def advance(self) -> None:
        self.world.then("advance", self.run_id)

    def interrupt(self, cancelled: Any, force: bool = False, grace: float | None = None) -> None:
        self.world.then("interrupt", self.run_id, tuple(scope.run_id for scope in cancelled), force, grace)


class Deaf:
    """A loop that takes what it is told; what would come of that is a step of the explorer."""

    def call_soon_threadsafe(self, *_: Any) -> None:
        """Tasks are told of a cancel."""


class Durable:
    """What the store returns: the write becomes durable in a step of its own."""

    def __init__(self, world: World, name: str, status: RunStatus) -> None:
        self.world, self.name, self.status = world, name, status

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.world.then("durable", self.name, self.status)
        # the callback settles with `events`; the events follow from name and status
        self.world.ghost.waiting[self.name] = True


@dataclass
class Ghost:
    """What the explorer itself remembers."""

    agenda: list[tuple[Any, ...]] = field(default_factory=list)
    opened: dict[str, bool] = field(default_factory=dict)
    stray: dict[str, bool] = field(default_factory=dict)  #: opened by an abandoned body, when its run was ending
    began: dict[str, bool] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)  #: content still to be emitted
    refused: dict[str, bool] = field(default_factory=dict)  #: an emit raised: the body knows
    threads: dict[str, str] = field(default_factory=dict)  #: blocking calls: "", "runs", "over"
    closing: dict[str, RunStatus | None] = field(default_factory=dict)
    waiting: dict[str, bool] = field(default_factory=dict)
    stored: dict[str, RunStatus | None] = field(default_factory=dict)
    receipts: dict[str, tuple[Any, ...] | None] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)  #: terminal events that the reader got, in order
    reader: str = "reads"

    def freeze(self) -> tuple[Any, ...]:
        return (
            frozenset(self.agenda),
            *[tuple(part.values()) for part in self._parts],
            tuple(self.heard),
            self.reader,
        )

    def thaw(self, frozen: tuple[Any, ...]) -> None:
        self.agenda = list(frozen[0])
        for part, values in zip(self._parts, frozen[1:-2], strict=True):
            for key, value in zip(part, values, strict=True):
                part[key] = value
        self.heard, self.reader = list(frozen[-2]), frozen[-1]

    def fix(self) -> None:
        """All keys are known now."""
        self._parts: tuple[dict[str, Any], ...] = (
            self.opened,
            self.stray,
            self.began,
            self.left,
            self.refused,
            self.threads,
            self.closing,
            self.waiting,
            self.stored,
            self.receipts,
        )
