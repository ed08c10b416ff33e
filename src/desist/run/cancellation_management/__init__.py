"""Cancel a run of another process without a shared database, through a manager that the program sets.

A program that stores runs in a database that processes share (`desist.db.SqliteDb`, `PostgresDb`) needs no manager.
"""

from desist.run.cancellation_management.base import BaseRunCancellationManager
from desist.run.cancellation_management.cancel import acancel_run, cancel, cancel_run
from desist.run.cancellation_management.in_memory import InMemoryRunCancellationManager
from desist.run.cancellation_management.manager import get_cancellation_manager, set_cancellation_manager
from desist.run.cancellation_management.redis import RedisRunCancellationManager

__all__ = [
    "BaseRunCancellationManager",
    "InMemoryRunCancellationManager",
    "RedisRunCancellationManager",
    "acancel_run",
    "cancel",
    "cancel_run",
    "get_cancellation_manager",
    "set_cancellation_manager",
]
