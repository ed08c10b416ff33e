"""The workflows and agents that a server serves, by kind and id, and their stores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

from desist.agent.agent import Agent
from desist.exceptions import ConfigurationError
from desist.run.storage.store import Database, RunStore, store_of
from desist.server.problems import HTTPProblem
from desist.value_type import ValueType
from desist.workflow.workflow import Workflow

__all__ = ["Component", "Components", "Kind", "input_type_of"]

Component = Workflow | Agent
Kind = Literal["workflow", "agent"]


def input_type_of(component: Component) -> ValueType | None:
    """Return the type of the input, None if it is a text."""
    return component.input_type() if isinstance(component, Workflow) else None


class Components:
    """The served components.

    Parameters:
        db: the database for components without a `db` of their own. None: in memory.

    Raises:
        ConfigurationError: nothing is given, an object is of another type, or two have the same id.
    """

    def __init__(
        self, workflows: Sequence[Workflow], agents: Sequence[Agent], db: Database | RunStore | None = None
    ) -> None:
        if db is not None:
            store_of(db, "a server")
        self._known: dict[tuple[str, str], Component] = {}
        for kind, expected, given in (("workflow", Workflow, workflows), ("agent", Agent, agents)):
            for one in given:
                if not isinstance(one, expected):
                    raise ConfigurationError(f"{kind}s= of a server takes {expected.__name__} objects, not {one!r:.80}")
                if (kind, one.id) in self._known:
                    raise ConfigurationError(f"two {kind}s have the id {one.id!r}: give one of them another id=")
                self._known[kind, one.id] = _with_db(one, db)
        if not self._known:
            raise ConfigurationError("nothing to serve: pass workflows=[...] or agents=[...]")

    @property
    def owners(self) -> frozenset[tuple[str, str]]:
        """The kind and id of each component, as recorded with its runs."""
        return frozenset(self._known)

    def stores(self) -> list[RunStore]:
        """Return the distinct stores."""
        return list({id(one.store): one.store for one in self._known.values()}.values())

    def of_kind(self, kind: Kind) -> list[Component]:
        """Return all components of a kind."""
        return [one for (known, _), one in self._known.items() if known == kind]

    def kind_of(self, component: Component) -> Kind:
        """Return "workflow" or "agent"."""
        return "workflow" if self.find("workflow", component.id) is component else "agent"

    def find(self, kind: str, component_id: str | None) -> Component | None:
        """Return a component, or None."""
        return self._known.get((kind, component_id or ""))

    def get(self, kind: Kind, component_id: str) -> Component:
        """Return a component.

        Raises:
            HTTPProblem: 404.
        """
        found = self.find(kind, component_id)
        if found is None:
            raise HTTPProblem(404, f"there is no {kind} with this id")
        return found


def _with_db(one: Component, db: Database | RunStore | None) -> Component:
    """Return the component with a database. The caller's object is not changed: a copy is."""
    if db is None or one.db is not None:
        return one
    served = copy.copy(one)
    served.db = db
    return served
