"""`PostgresDb` and `AsyncPostgresDb`: sessions and runs in a Postgres, which processes of any machine may use.

The same store as over SQLite (`desist.db.store.shared_table_store`), on another place. `postgres_target` says which
server and how to reach it, `postgres` holds the connections of one set of tables, `postgres` what this dialect says
otherwise, `postgres_listener` hears the server call.
"""

from desist.db.postgres.database import AsyncPostgresDb, PostgresDb

__all__ = ["AsyncPostgresDb", "PostgresDb"]
