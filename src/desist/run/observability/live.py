"""The live runs of this process, what each waits for, abandoned calls that still run; and cancelling many runs.

Called by programs, the console and the command line. Everything is computed on request: a live run
records nothing for this module. Runs of other processes are not visible here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.run.execution.cancel_decision import cancel_many
from desist.run.execution.finalizer import EndingRun, runs_with_abandoned_work
from desist.run.execution.run import Run
from desist.run.options.numbers import check_number
from desist.run.records.ids import require_id
from desist.run.storage.values import CancelRequest

__all__ = [
    "AbandonedCallInfo",
    "LiveRunInfo",
    "cancel_all",
    "cancel_live",
    "innermost_frame",
    "open_steps",
    "quarantine",
]
__all__ += ["runs", "tree"]

#: A frame of a stack as text.
_ROW = re.compile(r'^ *File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<name>.*)$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRunInfo:
    """A live run, at the moment of the call of `runs()`."""

    run_id: str
    root_run_id: str
    parent_run_id: str | None
    kind: str  #: "workflow" or "agent"
    name: str
    status: RunStatus
    age: float  #: seconds
    session_id: str | None
    user_id: str | None
    workflow_id: str | None
    steps: tuple[str, ...]  #: names of open steps, the outermost first
    cancel: CancelRecord | None  #: if it is being cancelled
    blocked_in: tuple[str, ...]  #: what the run waits for, as text
    grace_left: float | None = None  #: seconds until running calls are abandoned, if it is being cancelled

    @property
    def is_root(self) -> bool:
        """Whether the run is the root of its tree; `cancel_all` cancels roots."""
        return self.parent_run_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonedCallInfo:
    """An abandoned call that still runs."""

    name: str
    kind: str  #: "thread" or "task"
    run_id: str | None
    root_run_id: str | None  #: the root of the run's tree
    since: float | None  #: when the call was abandoned, in seconds since the epoch; None if its own timeout did that
    alive: bool  #: False if the call has ended meanwhile, or has not begun
    stack: str  #: the present stack of the call


def runs(
    *,
    session_id: str | None = None,
    workflow_id: str | None = None,
    user_id: str | None = None,
    older_than: float | None = None,
) -> list[LiveRunInfo]:
    """Return the live runs of this process, the oldest first; children too. Costs nothing until it is called.

    Parameters:
        session_id, workflow_id, user_id: only runs of these. None does not filter.
        older_than: only runs that began so many seconds ago.

    Raises:
        ConfigurationError: a filter can't be used.
    """
    fits = _Filter(session_id, workflow_id, user_id, older_than)
    return [_info(run) for run in _live() if fits(run)]


def tree(run_id: str) -> list[LiveRunInfo]:
    """Return the live runs of one tree of this process, by the id of its root, the oldest first; none: [].

    Children without events in the tree, such as agents that a tool calls, are included.
    """
    root = require_id(run_id, "run_id")
    return [_info(run) for run in _live() if run.ids["root_run_id"] == root]


def cancel_all(
    *,
    session_id: str | None = None,
    workflow_id: str | None = None,
    user_id: str | None = None,
    older_than: float | None = None,
    reason: str | None = None,
    by: str | None = None,
    grace: float | None = None,
    force: bool = False,
) -> list[CancelReceipt]:
    """Cancel all trees of this process whose root matches. Returns at once; `receipt.wait()` waits.

    Without a filter that is every run there is; a filter that is None is no filter. `runs(...)` with the same
    filters, and `is_root`, returns beforehand the runs that would be cancelled. A run that starts meanwhile may be
    missed.

    Parameters:
        session_id, workflow_id, user_id: only runs of these.
        older_than: only runs that began so many seconds ago.
        reason: the reason, as free text.
        by: the name of the requester.
        grace: seconds for cleanup, before running calls are abandoned; None for each run's own.
        force: leave no time for cleanup.

    Returns:
        A receipt for each tree.

    Raises:
        ConfigurationError: a value can't be used; nothing was cancelled.
    """
    check_number(grace, "grace")
    fits = _Filter(session_id, workflow_id, user_id, older_than)
    chosen = [run for run in _live() if run.scope.parent is None and not run.owned_elsewhere and fits(run)]
    why = CancelReason(source=Source.user, text=reason, by=by)
    return cancel_many(chosen, CancelRequest(reason=why, grace=grace, force=force))


def cancel_live(run_ids: Iterable[str], how: CancelRequest) -> list[CancelReceipt]:
    """Cancel the trees of this process that have these roots and still live; return a receipt for each."""
    wanted = set(run_ids)
    return cancel_many([run for run in _live() if run.run_id in wanted and not run.owned_elsewhere], how)


def quarantine() -> list[AbandonedCallInfo]:
    """Return the abandoned calls that still run. Their threads can't be stopped."""
    found: list[AbandonedCallInfo] = []
    seen: set[int] = set()
    for run in dict.fromkeys((*_live(), *runs_with_abandoned_work())):
        for work in list(run.scope.work):
            for part in work.parts() if work.abandoned else ():
                seen.add(id(part))
                found.append(_abandoned_info(part, run))
        explained = any(work.abandoned for work in run.scope.work)  # the body waits for that
        stack = run.tasks.stack() if run.scope.grace_expired and not explained else ""
        if stack:
            since = _since(run, run.body.kind)
            found.append(
                AbandonedCallInfo(
                    name=run.body.kind,
                    kind="task",
                    run_id=run.run_id,
                    root_run_id=run.ids["root_run_id"],
                    since=since,
                    alive=True,
                    stack=stack,
                )
            )
    found += [_abandoned_info(part, None) for part in abandoned_threads() if id(part) not in seen]
    return found


def _live() -> list[Run]:
    return sorted((cast(Run, run) for run in registry.live()), key=lambda run: run.opened_at)


class _Filter:
    """A filter of live runs."""

    def __init__(
        self, session_id: str | None, workflow_id: str | None, user_id: str | None, older_than: float | None
    ) -> None:
        self._wanted = {
            name: require_id(value, name)
            for name, value in (("session_id", session_id), ("workflow_id", workflow_id), ("user_id", user_id))
            if value is not None
        }
        check_number(older_than, "older_than", "(an age in seconds)")
        self._before = None if older_than is None else time.monotonic() - older_than

    def __call__(self, run: Run) -> bool:
        if self._before is not None and run.opened_at > self._before:
            return False
        output = run.body.output
        return all(getattr(output, name, None) == value for name, value in self._wanted.items())


def _info(run: Run) -> LiveRunInfo:
    output = run.body.output
    with run.lock:
        parent = run.scope.parent
        children: list[Run] = [scope.owner for scope in run.scope.children.values()]
        works = list(run.scope.work)
        status, record = run.scope.status, run.record
        steps, waits = _call_body(run.body, "open_steps"), _call_body(run.body, "waits")
    return LiveRunInfo(
        run_id=run.run_id,
        root_run_id=run.ids["root_run_id"],
        parent_run_id=parent.run_id if parent else None,
        kind=run.body.kind,
        name=_name(run),
        status=status,
        age=time.monotonic() - run.opened_at,
        session_id=output.session_id,
        user_id=output.user_id,
        workflow_id=getattr(output, "workflow_id", None),
        steps=steps,
        cancel=record,
        blocked_in=tuple(_blocked_in(run, works, children, waits)),
        grace_left=run.interruption.grace_left,
    )


def open_steps(run: Any) -> list[str]:
    """Return the names of the steps of a live run that are open, the outermost first."""
    with run.lock:
        return list(_call_body(run.body, "open_steps"))


def _call_body(body: Any, method: str) -> tuple[str, ...]:
    """Call an optional method of a body; () if the body does not have it."""
    answer = getattr(body, method, None)
    return tuple(answer()) if answer is not None else ()


def _name(run: Run) -> str:
    output, kind = run.body.output, run.body.kind
    return str(getattr(output, f"{kind}_name", None) or getattr(output, f"{kind}_id", None) or "")


def _blocked_in(run: Run, works: Iterable[Any], children: Iterable[Run], waits: Iterable[str]) -> Iterable[str]:
    """Return what a run waits for: the model, tools and functions, child runs; else the frame of its task."""
    found = [*waits]
    for work in works:
        place = innermost_frame(_stack(work))
        found.append(f"{work.name} for {time.time() - work.started_at:.1f} s" + (f" in {place}" if place else ""))
    found += [f"{child.body.kind} {_name(child)!r} (run {child.run_id})" for child in children]
    if not found and (place := innermost_frame(run.tasks.stack())):
        found.append(place)
    return found


def innermost_frame(stack: str) -> str:
    """Return one line for a stack: its innermost frame, or the one that called into asyncio; "" for no stack."""
    rows = list(_ROW.finditer(stack))
    own = [row for row in rows if "/asyncio/" not in row["file"]]
    for row in (own or rows)[-1:]:
        return f"{row['name']} ({row['file']}:{row['line']})"
    return ""


def _stack(work: Any) -> str:
    """Return where work is now; "" for a kind that has no frames to show."""
    stack = getattr(work, "stack", None)
    return "" if stack is None else str(stack())


def _abandoned_info(work: Any, run: EndingRun | None) -> AbandonedCallInfo:
    stack = _stack(work)
    whose = run or getattr(work, "owner", None)
    ids = getattr(whose, "ids", {})
    return AbandonedCallInfo(
        name=work.name,
        kind=work.kind,
        run_id=ids.get("run_id"),
        root_run_id=ids.get("root_run_id"),
        since=_since(run, work.name) if run else None,
        alive=not work.ended,
        stack=stack,
    )


def _since(run: EndingRun, name: str) -> float | None:
    abandoned = run.record.abandoned if run.record else []
    return next((item.since for item in abandoned if item.name == name), None)
