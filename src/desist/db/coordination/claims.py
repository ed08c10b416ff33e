"""Claims of ids that clients choose: of sessions, and of new runs. Each is decided in one transaction.

Called by the stores for a server with several users. If two requests name a new id at the same moment, the first
transaction has the id, and the second one finds it taken. Within a process the writer orders them, between processes
the lock of the file or of the id, which is held until the transaction ends.
"""

from __future__ import annotations

from desist.db.process.identity import this_process
from desist.db.records.codec import encode
from desist.db.records.rows import put_run
from desist.db.recovery.orphans import end_orphans
from desist.db.tables.tables import Tables
from desist.run.storage.values import StoredRun, StoredSession, other_users

__all__ = ["claim_session", "drop_reservation", "reserve_run"]


def claim_session(tables: Tables, session: StoredSession) -> set[str | None]:
    """Create a session for its user, if there is none with its id; return the other users of that id.

    If there are none, the session is the user's, and has no texts of others. Sessions of all kinds count, and runs
    whose session was deleted.
    """
    tables.sessions.lock(session.session_id)
    holders, speakers = tables.sessions.users(session.session_id)
    others = other_users(holders, speakers, session.user_id)
    if not others and tables.sessions.get(session.session_id, session.kind) is None:
        tables.sessions.put(session)
    return others


def reserve_run(tables: Tables, run: StoredRun) -> bool:
    """Store a run that is about to start in this process; return False if there is one with its id."""
    tables.runs.lock(run.run_id)
    if tables.runs.get(run.run_id) is not None:
        return False
    put_run(tables, run, this_process(), encode(run.output))
    return True


def drop_reservation(tables: Tables, run_id: str) -> None:
    """Delete a reserved run that was not started. If it was cancelled meanwhile, it ends cancelled."""
    row = tables.runs.get(run_id)
    if row is None or row.is_final or row.process != this_process():
        return
    if row.cancel is not None:
        end_orphans(tables, row.root_run_id)
    else:
        tables.runs.delete(run_id)
