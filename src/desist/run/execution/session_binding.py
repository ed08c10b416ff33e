"""The session of one run: loading its state before the work begins, and the change of the state at the end.

The change is stored together with the run, in one transaction, not by this module.
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

    Each key of the state has the value that was given for the run, else the stored value, else the default. The run
    works on the dict `parent.session_state`, which `load` fills in place.

    Parameters:
        kind: "agent" or "workflow".
        owner_id: the id of the agent or workflow.
        parent: the context of the run; its `session_state` is the state that was given.
        defaults: the state of a new session.
        overwrite: ignore the stored state, and replace it at the end.
    """

    def __init__(
        self, kind: str, owner_id: str, parent: ParentContext, *, defaults: dict[str, Any] | None, overwrite: bool
    ) -> None:
        self._parent, self._defaults, self._overwrite = parent, defaults or {}, overwrite
        self._kind, self._owner_id = kind, owner_id
        self._loaded = False
        self._before: dict[str, Any] = {}
        self.update = self._change({}, {})  #: before `conclude` only the ids of the session

    def _change(self, before: dict[str, Any], after: dict[str, Any]) -> SessionUpdate:
        """Return a new change, because a store may apply the previous one later."""
        parent = self._parent
        return SessionUpdate(
            session_id=parent.session_id or "",
            kind=self._kind,
            owner_id=self._owner_id,
            user_id=parent.user_id,
            before=before,
            after=after,
            metadata=parent.metadata,
            new=parent.new_session,
        )

    async def load(self, store: RunStore) -> None:
        """Fill the state, before any work. A cancel ends the wait for a slow disk."""
        parent, session_id = self._parent, self._parent.session_id or ""
        if not parent.new_session:
            stored = await read(store, lambda: store.load_session(session_id, self._kind))
            self._before = dict(stored.session_data.get("session_state") or {}) if stored is not None else {}
        sources = [self._defaults] if self._overwrite else [self._before, self._defaults]
        for source in sources:
            for key, value in copy_state(source).items():
                parent.session_state.setdefault(key, value)
        self._loaded = True

    def conclude(self) -> None:
        """Set `update` to the change that the run has made. A state that was not loaded has no change."""
        if self._loaded:
            self.update = self._change(self._before, copy_state(self._parent.session_state))
