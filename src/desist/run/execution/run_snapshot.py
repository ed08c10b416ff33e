"""A run as a store and other readers take it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Protocol

from desist.cancel.status import RunStatus
from desist.run.execution.emitter import Emitter
from desist.run.execution.limits import RunLimits
from desist.run.execution.run_core import RunCore
from desist.run.storage.values import StoredRun

__all__ = ["StorableRun", "snapshot", "to_stored"]

#: Fields of outputs that grow while a run goes on.
_GROWING = ("events", "messages", "step_results", "tools")


class StorableRun(RunCore, Protocol):
    """A run that can be stored."""

    emitter: Emitter
    limits: RunLimits


def to_stored(run: StorableRun, status: RunStatus) -> StoredRun:
    """Return the run as a store takes it. The output isn't copied: a store encodes it before it returns, or owns it."""
    parent, body, output = run.scope.parent, run.body, run.body.output
    return StoredRun(
        run_id=run.run_id,
        kind=body.kind,
        status=status,
        output=output,
        root_run_id=run.root.run_id,
        parent_run_id=parent.run_id if parent else None,
        session_id=output.session_id,
        owner_id=getattr(output, f"{body.kind}_id", None),
        user_id=output.user_id,
        created_at=run.created_at,
        resumable=parent is None and getattr(body, "resumable", False),
        session=getattr(body, "session", None),
        event_buffer=run.emitter.event_buffer,
        options=run.limits.durable,
        requirements=getattr(body, "waiting", ()) if status is RunStatus.paused else (),
        has_paused_children=bool(getattr(getattr(body, "pauses", None), "paused_children", ())),
    )


def snapshot(run: StorableRun) -> StoredRun:
    """Return a live run as it is at this moment, with its partial content.

    Growing lists are copied, under the lock: the body appends to them while the caller reads.
    """
    with run.lock:
        output = copy.copy(run.body.output)
        for name in _GROWING:
            if isinstance(held := getattr(output, name, None), list):
                setattr(output, name, list(held))
        if output.content is None:
            output.content = run.body.partial_content()
        return replace(to_stored(run, run.scope.status), output=output)
