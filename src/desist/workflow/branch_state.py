"""The session state of parallel branches: a copy for each, and the merge.

Created and merged by `Parallel`. Knows dicts and values, nothing of runs.
"""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

__all__ = ["BranchStates", "copy_state"]

T = TypeVar("T")
State = dict[Any, Any]
log = logging.getLogger("desist.workflow")
_NOTHING: Any = object()


class BranchStates:
    """A state, a copy for each branch, and the merge of their changes.

    The changes of finished branches are merged in the order of the branches, dicts key by key. If two branches changed
    one value in different ways, the later branch wins, and `conflicts` names the value.
    """

    def __init__(self, state: State, names: Sequence[str], where: str) -> None:
        self._state, self._names, self._where = state, list(names), where
        shared: set[str] = set()
        self._base = copy_state(state, shared)
        self._copies = {name: copy_state(state, shared) for name in names}
        self._finished: set[str] = set()
        self._lock = threading.Lock()
        self._merged = False
        self._writers: dict[str, str] = {}
        self.conflicts: list[str] = []

    def of(self, name: str) -> State:
        """Return the state of a branch."""
        return self._copies[name]

    def finished(self, name: str) -> None:
        """Record that a branch has finished, so that its changes are merged."""
        self._finished.add(name)

    def in_order(self, items: Iterable[T], name: Callable[[T], str | None]) -> list[T]:
        """Return the values of finished branches, in the order of the branches."""
        order = {known: number for number, known in enumerate(self._names)}
        return sorted(items, key=lambda item: order.get(name(item) or "", len(order)))

    def merge(self) -> None:
        """Merge the changes of finished branches into the state. Only the first call has an effect."""
        with self._lock:
            if self._merged:
                return
            self._merged = True
            for name in self._names:
                if name in self._finished:
                    self._merge(self._base, self._state, self._copies[name], name, "session_state")

    def _merge(self, base: State, target: State, mine: State, name: str, path: str) -> None:
        for key in [*mine, *(key for key in base if key not in mine)]:
            was, now = base.get(key, _NOTHING), mine.get(key, _NOTHING)
            if _same(was, now):
                continue
            place = f"{path}[{key!r}]"
            there = target.get(key, _NOTHING)
            if type(now) is dict and type(there) is dict and (was is _NOTHING or type(was) is dict):
                self._merge({} if was is _NOTHING else was, there, now, name, place)
                self._writers[place] = name
                continue
            if not _same(there, was) and not _same(there, now):
                self._conflict(place, name)
            self._writers[place] = name
            if now is _NOTHING:
                target.pop(key, None)
            else:
                target[key] = now

    def _conflict(self, path: str, name: str) -> None:
        inner = [writer for known, writer in self._writers.items() if known.startswith(path)]
        other = self._writers.get(path) or (inner[-1] if inner else "something else")
        words = f"{path} was changed by {other!r} and by {name!r}: {name!r} wins"
        self.conflicts.append(words)
        log.warning("Parallel %r: %s", self._where, words)


def copy_state(state: State, shared: set[str] | None = None, path: str = "session_state") -> State:
    """Return a deep copy of a state. Values that can't be copied are shared, and logged.

    Parameters:
        shared: the names of shared values, extended here; each is logged once.
    """
    shared = set() if shared is None else shared
    try:
        return copy.deepcopy(state)
    except Exception:  # raised by a value's own code; below each value is copied by itself
        return {key: _copied(value, shared, f"{path}[{key!r}]") for key, value in list(state.items())}


def _copied(value: Any, shared: set[str], path: str) -> Any:
    try:
        if type(value) is dict:
            return copy_state(value, shared, path)
        return copy.deepcopy(value)
    except Exception as error:
        if path not in shared:
            shared.add(path)
            words = "%s can't be copied (%s: %s): branches share the one %s"
            log.warning(words, path, type(error).__name__, error, type(value).__name__)
        return value


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal. If they can't be compared, their pickles are."""
    if one is other:
        return True
    if one is _NOTHING or other is _NOTHING or type(one) is not type(other):
        return False
    try:
        if bool(one == other):
            return True
        return not isinstance(one, str | int | float) and pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # raised by a value's own code
        return _pickled_alike(one, other)


def _pickled_alike(one: Any, other: Any) -> bool:
    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:
        return False
