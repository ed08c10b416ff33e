"""Where DBOS has its tables, and how the end of a process is seen, for each kind of database that workers can share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.db.sqlite import AsyncSqliteDb, SqliteDb
from desist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from desist.engine.lifeline import Lifeline

__all__ = ["lifeline_of", "url_of"]


def url_of(db: Any) -> str:
    """Return where DBOS has its tables: beside ours in Postgres, in a file of its own beside a SQLite file.

    Raises:
        ConfigurationError: workers can't share this database.
    """
    if isinstance(db, SqliteDb | AsyncSqliteDb):
        return f"sqlite:///{db.db_file}.queue"
    url = getattr(db, "db_url", None)
    if isinstance(url, str) and url.startswith("postgresql"):
        return "postgresql+psycopg://" + url.partition("://")[2]
    raise ConfigurationError(f"workers can't share {db!r:.80}: give a PostgresDb(...), or SqliteDb(...) on one machine")


def lifeline_of(db: Any) -> Lifeline | None:
    """Return how the end of a process on another machine is seen; None where there are no other machines."""
    if isinstance(db, SqliteDb | AsyncSqliteDb):
        return None
    from desist.engine.lifeline import Lifeline

    return Lifeline(db.db_url)
