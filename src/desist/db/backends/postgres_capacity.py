"""How much room for connections a server has, said when a database is opened: before one is needed and isn't there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from desist.db.process.postgres_target import MAKE_ROOM, PostgresTarget

if TYPE_CHECKING:
    import psycopg

__all__ = ["room", "say_room"]

log = logging.getLogger("desist.db")

#: What a process that does little needs beside the connection that writes: one that reads, and one that listens.
NEEDED = 2

#: Each limit for this user: what it is called, its number (negative: none), how many are in use. Superusers may use the
#: reserved ones, and have no limit of their own. Others aren't told which backends are clients': all with a user count.
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


def room(connection: psycopg.Connection[Any]) -> tuple[int, str, int, int]:
    """Return how many connections more this user may have, and the limit that says so: its name, number and use."""
    rows = connection.execute(_LIMITS.encode(), prepare=False).fetchall()
    limits = [(limit - used, str(name), limit, used) for name, limit, used in rows if limit >= 0]
    return min(limits)


def say_room(target: PostgresTarget, connection: psycopg.Connection[Any]) -> None:
    """Warn if the server has hardly room for this process. Behind a pooler that can't be known."""
    import psycopg

    if target.is_pooled:
        return
    try:
        free, name, limit, used = room(connection)
    except (psycopg.Error, ValueError) as error:  # a server that has no such tables; never a reason not to begin
        log.debug("%s: its room for connections isn't known: %s", target.name, error)
        return
    if free < NEEDED:
        log.warning(
            "%s: %d of %d connections are in use (%s), this one included. Runs are stored with it; looks"
            " share it, and calls of other processes aren't heard, unless there is room again: %s",
            target.name,
            used,
            limit,
            name,
            MAKE_ROOM.format(limit=name),
        )
