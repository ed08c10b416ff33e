"""`StoredDb`: databases in files. All objects for one file share one store, which the last `close` closes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from desist.db.base import BaseDb, opened
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.store.table_store import TableStore
from desist.exceptions import ConfigurationError, StoreError
from desist.run.storage.store import RunStore
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["StoredDb"]

AnyStore = TableStore | SharedTableStore
S = TypeVar("S", bound=AnyStore)


class _OpenStores:
    """The open stores of this process by their files, and the objects that use each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._open: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._users: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()

    def take(self, key: Hashable, make: Callable[[], S], user: Any) -> S:
        with self.lock:
            store = self._open.get(key)
            if store is None:
                store = self._open[key] = make()
                self._users[store] = weakref.WeakSet()
            self._users[store].add(user)
            taken: S = store
            return taken

    def leave(self, store: AnyStore, user: Any) -> bool:
        """Remove a user of a store; return whether it was the last one."""
        with self.lock:
            users = self._users.get(store)
            if users is None:
                return False
            users.discard(user)
            if users:
                return False
            del self._users[store]
            for key in [key for key, known in self._open.items() if known is store]:
                del self._open[key]
            return True

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()


_stores = _OpenStores()
register_at_fork(after_in_child=_stores.reset_after_fork)


class StoredDb(BaseDb, Generic[S]):
    """A database in a file or folder. Objects for the same file share one writer and its connections."""

    def __init__(self, key: Hashable, make: Callable[[float], S], timeout: float, **arguments: Any) -> None:
        self._arguments = {**arguments, "timeout": timeout}  #: to open it again
        if timeout <= 0:
            raise ConfigurationError(f"timeout={timeout} of {type(self).__name__} must be more than 0 seconds")
        self._closed = False
        self._table_store = _stores.take(key, lambda: make(timeout), self)
        super().__init__(self._table_store)

    @property
    def store(self) -> RunStore:
        """The store of agents and workflows.

        Raises:
            StoreError: the database is closed.
        """
        if self._closed:
            raise StoreError(f"{self._table_store.backend.name} is closed")
        return self._table_store

    def __reduce__(self) -> Any:
        return opened, (type(self), self._arguments)

    def flush(self) -> None:
        """Wait until all pending writes are done.

        Raises:
            StoreError: they take longer than the timeout, or fail.
        """
        if not self._table_store.flush():
            raise StoreError(
                f"the pending writes to {self._table_store.backend.name} failed, or took longer than the timeout"
            )

    def close(self) -> None:
        self._closed = True
        if _stores.leave(self._table_store, self):
            self._table_store.close()
