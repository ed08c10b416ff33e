"""A process that claims ids as one user, one for each line that it reads: `session ID` or `run ID`.

Started as `claim_process.py KIND PLACE USER`. It answers each line with one: "mine", or "other".
"""

from __future__ import annotations

import sys

from desist.db import JsonDb, PostgresDb, SqliteDb
from desist.run.events.base import RunStatus
from desist.run.outputs.agent import RunOutput
from desist.run.storage.values import StoredRun, StoredSession

KINDS = {"sqlite": SqliteDb, "postgres": PostgresDb, "json": JsonDb}


def run_of(run_id: str, user: str) -> StoredRun:
    """Return a run as a server reserves it."""
    output = RunOutput(run_id=run_id, agent_id="a", user_id=user, status=RunStatus.pending)
    return StoredRun(
        run_id=run_id, kind="agent", status=RunStatus.pending, output=output, root_run_id=run_id, user_id=user
    )


def session_of(session_id: str, user: str, kind: str = "agent") -> StoredSession:
    """Return a session as a server claims it."""
    return StoredSession(session_id=session_id, kind=kind, owner_id="a", user_id=user)


def main(kind: str, place: str, user: str) -> None:
    db = KINDS[kind](place, timeout=60)  # type: ignore[operator]
    print("ready", flush=True)
    for line in sys.stdin:
        what, name = line.split()
        if what == "session":
            mine = not db.store.claim_session(session_of(name, user))
        else:
            mine = db.store.reserve_run(run_of(name, user))
        print("mine" if mine else "other", flush=True)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
