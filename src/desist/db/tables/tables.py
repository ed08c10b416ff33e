"""`Tables`: the tables of any database, for one transaction or one read, with a part for each kind of rows.

The methods are documented in `sql_runs`, `sql_sessions`, `sql_events` and `sql_owners`. `JsonTables` has those that a
store for one process needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from desist.db.tables.json import JsonTables
    from desist.db.tables.sql import SqlTables

__all__ = ["Tables"]

Tables: TypeAlias = "SqlTables | JsonTables"  # a string: few programs use the JSON files
