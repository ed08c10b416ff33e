"""Warns when a database is opened and its server has few connections left: before one is needed and missing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from desist.db.process.postgres_target import MAKE_ROOM, PostgresTarget

if TYPE_CHECKING:
    import psycopg

__all__ = ["free_connections", "warn_if_full"]

log = logging.getLogger("desist.db")

#: Connections that every process needs beside the writer's: one for reading, one for notifications.
NEEDED = 2

#: Each limit for this user: name, number (negative: no limit), use. Superusers may use the reserved connections, and
#: have no limit of their own. Other users can't see which server processes belong to clients: all with a user count.
_LIMITS = """
WITH me AS (SELECT rolname, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = session_user),
     used AS (SELECT datname, usename FROM pg_stat_activity
              WHERE datname IS NOT NULL AND usename IS NOT NULL)
SELECT 'max_connections of the server',
       current_setting('max_connections')::int - CASE WHEN rolsuper THEN 0 ELSE
           current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) END,
       (SELECT count(*) FROM used) FROM me
UNION ALL
SELECT 'the CONNECTION LIMIT of the role ' || rolname, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END,
       (SELECT count(*) FROM used WHERE usename = rolname) FROM me
UNION ALL
SELECT 'the CONNECTION LIMIT of the database ' || datname, CASE WHEN rolsuper THEN -1 ELSE datconnlimit END,
       (SELECT count(*) FROM used WHERE used.datname = pg_database.datname)
FROM pg_database, me WHERE datname = current_database()
"""


def free_connections(connection: psycopg.Connection[Any]) -> tuple[int, str, int, int]:
    """Return how many more connections this user may have, and the limit for that: its name, its number, the use."""
    rows = connection.execute(_LIMITS.encode(), prepare=False).fetchall()
    limits = [(limit - used, str(name), limit, used) for name, limit, used in rows if limit >= 0]
    return min(limits)


def warn_if_full(target: PostgresTarget, connection: psycopg.Connection[Any]) -> None:
    """Warn if the server has too few connections left for this process. Behind a pooler that can't be known."""
    import psycopg

    if target.is_pooled:
        return
    try:
        free, name, limit, used = free_connections(connection)
    except (psycopg.Error, ValueError) as error:  # a server without these tables; never a reason not to open
        log.debug("%s: its free connections are unknown: %s", target.name, error)
        return
    if free < NEEDED:
        log.warning(
            "%s: %d of %d connections are in use (%s), including the one of this process. That one stores"
            " runs; reads share it, and this process is not notified by others, until connections are free again: %s",
            target.name,
            used,
            limit,
            name,
            MAKE_ROOM.format(limit=name),
        )
