"""Copies of agents and workflows: `copy.copy`, `copy.deepcopy` and pickle."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

from desist.run.storage.memory import MemoryStore

__all__ = ["CopiedSettings"]


class CopiedSettings:
    """Base of `Component`. A shallow copy shares everything; a deep copy and a pickle hold the settings only.

    They have no runs in memory and no session of their own, and share the database.
    """

    _memory: MemoryStore
    #: Attributes that aren't settings, each with a default on the class, except `_memory`.
    _made: ClassVar[frozenset[str]] = frozenset(
        {"_memory", "_own_session", "_last_session", "_resolved", "_answer_type", "_input_type"}
    )

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self._made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._memory = MemoryStore()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = memo[id(self)] = object.__new__(type(self))
        state = {}
        for name, value in self.__getstate__().items():
            try:
                state[name] = copy.deepcopy(value, memo)
            except TypeError as error:
                raise TypeError(f"{self!r} can't be copied, because its {name}= can't: {error}") from error
        made.__setstate__(state)
        return made
