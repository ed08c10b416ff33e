"""The database of DBOS's tables and the liveness lock, for each kind of database that workers can share."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from desist.db.backends.sqlite import SqliteBackend
from desist.db.backends.sqlite_schema import make_private
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from desist.db.backends.postgres import PostgresBackend
    from desist.engine.liveness_lock import LivenessLock

__all__ = ["EngineConfig", "engine_config", "has_sqlite_queue", "liveness_lock_of"]

#: The first SQLite with fractions of a second in `unixepoch`, which DBOS's tables need on Python 3.12 and newer.
_SQLITE_WITH_FRACTIONS = (3, 42)
#: The longest name in Postgres.
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The database and schema of DBOS's tables. Each queue has its own: no worker takes runs of another queue."""

    url: str = field(repr=False)  #: of SQLAlchemy, with the password
    schema: str
    pooled: bool = False  #: behind a pooler: connections keep no state
    format_error: Callable[[BaseException], str] = str  #: names the database and what to do


def has_sqlite_queue() -> bool:
    """Return whether DBOS's tables can be in a SQLite file here."""
    return sys.version_info < (3, 12) or sqlite3.sqlite_version_info >= _SQLITE_WITH_FRACTIONS


def engine_config(store: SharedTableStore) -> EngineConfig:
    """Return the configuration: in Postgres a schema beside ours, else a file beside the SQLite file.

    Raises:
        ConfigurationError: workers can't share this database.
        StoreError: the database can't be reached.
    """
    backend: Any = store.backend
    names: TableNames = backend.names
    if isinstance(backend, SqliteBackend):
        if not has_sqlite_queue():
            raise ConfigurationError(
                f"a queue in {backend.name} needs SQLite 3.42 or newer on Python 3.12 or newer, and this Python has "
                f"SQLite {sqlite3.sqlite_version}: use PostgresDb(...), or Python 3.11"
            )
        own = "" if names == TableNames() else f".{names.queue}"
        queue = Path(f"{backend.path}{own}.queue")
        make_private(queue)
        return EngineConfig(f"sqlite:///{queue}", "desist", format_error=lambda error: f"{queue}: {error}")
    if hasattr(backend, "target"):
        return _in_postgres(backend)
    raise ConfigurationError(f"workers can't share {backend.name}: use PostgresDb(...) or SqliteDb(...)")


def _in_postgres(backend: PostgresBackend) -> EngineConfig:
    from sqlalchemy import URL

    options = dict(backend.target.settings)
    known = {name: options.pop(option, None) for name, option in _PARTS.items()}
    port = known.pop("port")
    url = URL.create("postgresql+psycopg", **known, port=int(port) if port else None, query=options)
    schema = f"{backend.schema.name()}_{backend.names.queue}_dbos"
    if len(schema) > _LONGEST:
        schema = f"desist_{blake2b(schema.encode(), digest_size=12).hexdigest()}_dbos"
    return EngineConfig(
        url.render_as_string(hide_password=False), schema, bool(backend.target.is_pooled), backend.target.format_error
    )


_PARTS = {"username": "user", "password": "password", "host": "host", "port": "port", "database": "dbname"}


def liveness_lock_of(store: SharedTableStore) -> LivenessLock | None:
    """Return the lock that shows the end of a process on another machine, or None if the database has none."""
    backend: Any = store.backend
    if isinstance(backend, SqliteBackend) or backend.target.is_pooled:
        return None
    from desist.engine.liveness_lock import LivenessLock

    return LivenessLock(backend.target)
