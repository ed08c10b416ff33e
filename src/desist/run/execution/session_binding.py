"""What one run has to do with its session: it takes the state before the work begins, and gives back what it changed.

Used by the bodies of agents and workflows. The store is told together with the run itself, never from here.
"""

from __future__ import annotations

from typing import Any

from desist.run.options.parent_context import ParentContext
from desist.run.records.state_copy import copy_state
from desist.run.storage.store import RunStore, read
from desist.run.storage.values import SessionUpdate

__all__ = ["SessionBinding"]


class SessionBinding:
    """The session of one run.

    What was given for the run goes before what is stored, and that before the defaults of the agent or workflow; key
    by key. The run works on the dict of its place, which is filled in place.

    Parameters:
        kind: "agent" or "workflow".
        owner_id: of the agent or workflow.
        place: where the run stands; its `session_state` is what was given.
        defaults: the state that a new session has.
        overwrite: don't take what is stored; at the end it is replaced.
    """

    def __init__(
        self, kind: str, owner_id: str, parent: ParentContext, *, defaults: dict[str, Any] | None, overwrite: bool
    ) -> None:
        self._parent, self._defaults, self._overwrite = parent, defaults or {}, overwrite
        self._kind, self._owner_id = kind, owner_id
        self._loaded = False
        self._before: dict[str, Any] = {}
        self.update = self._change({}, {})  #: at the start nothing but that there is a session; see `conclude`

    def _change(self, before: dict[str, Any], after: dict[str, Any]) -> SessionUpdate:
        """Return a change as a new value: stores apply it later."""
        place = self._parent
        return SessionUpdate(
            session_id=place.session_id or "",
            kind=self._kind,
            owner_id=self._owner_id,
            user_id=place.user_id,
            before=before,
            after=after,
            metadata=place.metadata,
        )

    async def load(self, store: RunStore) -> None:
        """Fill the state, before any work. A cancel interrupts it, whatever the disk does."""
        place, session_id = self._parent, self._parent.session_id or ""
        if not place.new_session:
            held = await read(store, lambda: store.load_session(session_id, self._kind))
            self._before = dict(held.session_data.get("session_state") or {}) if held is not None else {}
        sources = [self._defaults] if self._overwrite else [self._before, self._defaults]
        for source in sources:
            for key, value in copy_state(source).items():
                place.session_state.setdefault(key, value)
        self._loaded = True

    def conclude(self) -> None:
        """Note what the run leaves behind, however it ended. What was never loaded isn't changed."""
        if self._loaded:
            self.update = self._change(self._before, copy_state(self._parent.session_state))
