"""Where DBOS has its tables, and how the end of a process is seen, for each kind of database that workers can share."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from desist.db.backends.sqlite import SqliteBackend, make_private
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.sql import TableNames
from desist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from desist.db.backends.postgres import PostgresBackend
    from desist.engine.liveness_lock import LivenessLock

__all__ = ["EngineConfig", "engine_config", "liveness_lock_of"]

#: How long a name may be in Postgres.
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Where DBOS has its tables: those of each queue apart, so that no worker takes runs of another one."""

    url: str = field(repr=False)  #: as SQLAlchemy writes it, with the password
    schema: str
    pooled: bool = False  #: behind a pooler, where a connection keeps nothing


def engine_config(store: SharedTableStore) -> EngineConfig:
    """Return where: in Postgres a schema beside ours, else a file beside the SQLite file.

    Raises:
        ConfigurationError: workers can't share this database.
        StoreError: it can't be reached.
    """
    place: Any = store.backend
    names: TableNames = place.names
    if isinstance(place, SqliteBackend):
        own = "" if names == TableNames() else f".{names.queue}"
        queue = Path(f"{place.path}{own}.queue")
        make_private(queue)
        return EngineConfig(f"sqlite:///{queue}", "desist")
    if hasattr(place, "target"):
        return _in_postgres(place)
    raise ConfigurationError(f"workers can't share {place.name}: give a PostgresDb(...), or a SqliteDb(...)")


def _in_postgres(backend: PostgresBackend) -> EngineConfig:
    from sqlalchemy import URL

    options = dict(backend.target.settings)
    known = {name: options.pop(given, None) for name, given in _PARTS.items()}
    port = known.pop("port")
    url = URL.create("postgresql+psycopg", **known, port=int(port) if port else None, query=options)
    schema = f"{backend.schema.name()}_{backend.names.queue}_dbos"
    if len(schema) > _LONGEST:
        schema = f"desist_{blake2b(schema.encode(), digest_size=12).hexdigest()}_dbos"
    return EngineConfig(url.render_as_string(hide_password=False), schema, bool(backend.target.is_pooled))


_PARTS = {"username": "user", "password": "password", "host": "host", "port": "port", "database": "dbname"}


def liveness_lock_of(store: SharedTableStore) -> LivenessLock | None:
    """Return how the end of a process on another machine is seen; None where that can't be."""
    place: Any = store.backend
    if isinstance(place, SqliteBackend) or place.target.is_pooled:
        return None
    from desist.engine.liveness_lock import LivenessLock

    return LivenessLock(place.target)
