"""`PostgresDb` and `AsyncPostgresDb`: sessions and runs in a Postgres, which processes on any machine may share.

The store is the same as over SQLite (`desist.db.store.shared_table_store`). `desist.db.process.postgres_target` knows
the server, `desist.db.backends.postgres` has the connections, `desist.db.tables.postgres` the dialect.
"""

from desist.db.postgres.database import AsyncPostgresDb, PostgresDb

__all__ = ["AsyncPostgresDb", "PostgresDb"]
