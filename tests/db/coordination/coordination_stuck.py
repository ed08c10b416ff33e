"""Databases as earlier versions left them: a run has a terminal event, and its record is as it was before its end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from database_worker_program import open_db

from desist import Agent, Step, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.process.identity import this_process
from desist.db.records.codec import encode_part
from desist.db.store.shared_table_store import as_found
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

#: How the runs that are left have ended: by id, which status their terminal events tell.
TOLD = {"completed": "COMPLETED", "failed": "ERROR", "cancelled": "CANCELLED", "agent": "COMPLETED"}
_TABLES = ("desist_runs", "desist_run_parts")


def sql(place: str, *statements: tuple[str, Sequence[Any]]) -> list[Any]:
    """Execute statements past desist; return the rows of the last one."""
    rows: list[Any] = []
    if "://" in place:
        import psycopg

        with psycopg.connect(place) as server:
            for statement, values in statements:
                cursor = server.execute(statement.replace("?", "%s").encode(), values)
                rows = cursor.fetchall() if cursor.description else []
        return rows
    connection = sqlite3.connect(place, timeout=30)
    try:
        for statement, values in statements:
            rows = connection.execute(statement, values).fetchall()
        connection.commit()
    finally:
        connection.close()
    return rows


def dead_process() -> str:
    """Return the name of a process of this machine that has ended."""
    where, boot, _, _ = this_process().split("|")
    return f"{where}|{boot}|{os.getpid()}|1"  # this one's id, from before this one


def workflow(db: Any, gate: Gate, *, fails: bool = False) -> Workflow:
    """Return a workflow that goes on after a crash."""

    async def wait(step_input: Any) -> str:
        await gate.wait()
        if fails:
            raise ValueError("no luck")
        return "two"

    steps = [Step("one", executor=lambda step_input: "one"), Step("two", executor=wait, on_error="fail", max_retries=0)]
    return Workflow("W", steps=steps, db=db, on_crash="resume")


def leave_stuck(place: str, *run_ids: str) -> None:
    """Leave runs of a process that died between the two transactions in which their ends were stored."""
    for run_id in run_ids:
        with as_found():
            db = open_db(place)
        gate = Gate()
        reader = _start(db, run_id, gate)
        gate.wait_reached()
        db.flush()
        before = {name: sql(place, (f"SELECT * FROM {name} WHERE run_id = ?", (run_id,))) for name in _TABLES}
        if run_id == "cancelled":
            Workflow("W", steps=[], db=db).cancel(run_id, reason="enough")
        else:
            gate.open()
        assert list(reader)[-1].status.value == TOLD[run_id]
        _keep_last_step(before["desist_run_parts"], db.get_run(run_id))
        db.close()
        override = "OVERRIDING SYSTEM VALUE" if "://" in place else ""
        for name, rows in before.items():
            sql(place, (f"DELETE FROM {name} WHERE run_id = ?", (run_id,)))
            for row in rows:
                sql(place, (f"INSERT INTO {name} {override} VALUES ({', '.join('?' * len(row))})", row))
        sql(place, ("UPDATE desist_runs SET process = ? WHERE run_id = ?", (dead_process(), run_id)))
        sql(place, ("DELETE FROM desist_owners", ()))


def _keep_last_step(parts: list[Any], output: Any) -> None:
    """Add what finished after these parts were read: it was stored before the end was told."""
    for step in getattr(output, "step_results", [])[1:]:
        number, run_id, kind, at, _ = parts[-1]
        parts.append((number + 1000, run_id, kind, at, encode_part(run_id, kind, step, None).value))


def _start(db: SqliteDb | PostgresDb, run_id: str, gate: Gate) -> Any:
    if run_id == "agent":

        async def look() -> str:
            await gate.wait()
            return "seen"

        turns: Any = [[ToolCalls(Call("look"))], "a whole answer"]
        return Agent(ScriptedModel(turns), name="A", tools=[look], db=db).run("go", run_id=run_id, stream=True)
    return workflow(db, gate, fails=run_id == "failed").run("go", run_id=run_id, session_id="s", stream=True)


def refuse_changes(place: str, run_id: str) -> None:
    """Have the database refuse every change of a record."""
    if "://" in place:
        body = f"BEGIN IF NEW.run_id = '{run_id}' THEN RAISE EXCEPTION 'it is refused'; END IF; RETURN NEW; END"
        sql(
            place,
            (f"CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$", ()),
            ("CREATE TRIGGER refused BEFORE UPDATE ON desist_runs FOR EACH ROW EXECUTE FUNCTION refused()", ()),
        )
        return
    body = f"WHEN NEW.run_id = '{run_id}' BEGIN SELECT RAISE(ABORT, 'it is refused'); END"
    sql(place, (f"CREATE TRIGGER refused BEFORE UPDATE ON desist_runs {body}", ()))


def allow_changes(place: str) -> None:
    """Take that back."""
    sql(place, ("DROP TRIGGER refused" + (" ON desist_runs" if "://" in place else ""), ()))
