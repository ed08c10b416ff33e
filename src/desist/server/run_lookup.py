"""Find the runs that a caller may see: in this process, and in the stores of the served components.

The status of a live run comes from the run itself; after its end, from the store. A run that belongs to another caller
is reported as missing.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from desist.cancel.registry import registry
from desist.run.storage.store import RunQuery, RunStore, StoredRun, read
from desist.server.components import Component, Components
from desist.server.problems import HTTPProblem
from desist.server.tokens import Caller

__all__ = ["RunLookup"]


class RunLookup:
    """Reads runs by id or by query."""

    def __init__(self, components: Components) -> None:
        self._components = components

    async def find(self, run_id: str, caller: Caller) -> StoredRun:
        """Return a run by any id of its tree.

        Raises:
            HTTPProblem: 404 if the caller may see no such run.
        """
        found = await self.load(run_id)
        if found is not None:
            root = found if found.root_run_id == run_id else await self.load(found.root_run_id)
            if root is not None and self._may_see(caller, root):
                return found
        raise HTTPProblem(404, "there is no run with this id")

    async def load(self, run_id: str) -> StoredRun | None:
        """Return a run of any caller, or None."""
        live: Any = registry.get(run_id)
        if live is not None and not live.scope.finalizing:
            found: StoredRun = live.to_stored(live.status)
            return found
        for store in self._components.stores():
            known = await read(store, functools.partial(store.load_run, run_id))
            if known is not None:
                status = known.output.status  # of a live run the store may have only the start
                return known if known.status.is_final else replace(known, status=status)
        return None

    def _may_see(self, caller: Caller, root: StoredRun) -> bool:
        known = self._components.find(root.kind, root.owner_id) is not None
        return known and caller.owner in (None, root.user_id)

    def component_of(self, run: StoredRun) -> Component:
        """Return the component that a run belongs to.

        Raises:
            HTTPProblem: 409 for a run inside another run.
        """
        found = self._components.find(run.kind, run.owner_id)
        if found is None:
            raise HTTPProblem(
                409, "this run is part of another run: use root_run_id instead", root_run_id=run.root_run_id
            )
        return found

    async def list(self, query: RunQuery, caller: Caller) -> list[StoredRun]:
        """Return the runs that match the query and that the caller may see, newest first."""
        if caller.owner is not None:
            if query.user_id not in (None, caller.owner):
                return []
            query = replace(query, user_id=caller.owner)
        served = self._components.owners
        query = replace(query, owners=served if query.owners is None else query.owners & served)
        found: list[StoredRun] = []
        for store in self._components.stores() if query.owners else ():
            found += await read(store, functools.partial(store.list_runs, query))
        return query.newest(found)

    async def store_of(self, found: StoredRun) -> RunStore | None:
        """Return the store that has the record of a run, or None."""
        live: Any = registry.get(found.run_id)
        if live is not None:
            store: RunStore = live.store
            return store
        component = self._components.find(found.kind, found.owner_id)
        if component is not None:
            return component.store
        for store in self._components.stores():
            if await read(store, functools.partial(store.load_run, found.run_id)) is not None:
                return store
        return None
