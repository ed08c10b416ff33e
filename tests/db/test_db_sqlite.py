"""What can be wrong with a file, and what several processes do with one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from desist import Step, Workflow
from desist.db import AsyncSqliteDb, JsonDb, SqliteDb
from desist.db.migrations import statements, steps
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError, StoreError, UnsupportedError
from desist.run.events.base import RunStatus


def child(code: str, *arguments: object) -> str:
    """Run a program in a process of its own and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs.db"


# -- files that can't be used


def test_a_folder(tmp_path: Path) -> None:
    """A folder is no file, and the error names it."""
    with pytest.raises(StoreError, match=f"{tmp_path} is a folder"):
        SqliteDb(tmp_path)


def test_no_database(path: Path) -> None:
    """A file of another kind is left as it is."""
    text = b"dear diary, " * 1000
    path.write_bytes(text)
    with pytest.raises(StoreError, match=r"runs\.db: this is not a SQLite database; it was left as it is"):
        SqliteDb(path)
    assert path.read_bytes() == text


def test_damaged(path: Path) -> None:
    """A damaged database is an error that names the file, and nothing in it is changed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE t (x); " + "INSERT INTO t VALUES (zeroblob(3000));" * 20)
    blob = bytearray(path.read_bytes())
    blob[100:4096] = b"\xff" * 3996
    path.write_bytes(blob)
    with pytest.raises(StoreError, match=r"runs\.db: "):
        SqliteDb(path)
    assert path.read_bytes() == bytes(blob)


def test_of_a_newer_desist(path: Path) -> None:
    """Tables of a version that this desist doesn't know are refused, and left as they are."""
    SqliteDb(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE desist_schema SET version = 999")
        connection.commit()
    with pytest.raises(StoreError, match="newer desist: its tables have version 999"):
        SqliteDb(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version FROM desist_schema").fetchall() == [(999,)]


def test_not_to_be_written(tmp_path: Path) -> None:
    """A file that may only be read is an error when the database is opened, not in the middle of a run."""
    folder = tmp_path / "open"
    folder.mkdir()
    SqliteDb(folder / "runs.db").close()
    for file in folder.iterdir():
        file.chmod(0o444)
    temporary = Path(tempfile.gettempdir()).resolve()
    for known in (folder, *folder.parents):
        if known.is_relative_to(temporary) and known != temporary:
            known.chmod(0o555 if known == folder else 0o755)
    said = child(
        """
        import os, sys
        from desist.db import SqliteDb
        from desist.db.migrations import steps
        from desist.exceptions import StoreError
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            known = steps()
        except OSError:
            known = []
        try:
            SqliteDb(sys.argv[1])
        except StoreError as error:
            print(error if known else "nobody can't read the sources")
        """,
        folder / "runs.db",
    )
    if "sources" in said:
        pytest.skip(said)
    assert "runs.db: it can't be " in said
    folder.chmod(0o755)


def test_a_folder_that_is_closed(tmp_path: Path) -> None:
    """A file that this user may not even see is an error in words."""
    folder = tmp_path / "closed"
    folder.mkdir(0o000)
    code = """
        import os, sys
        from desist.db import SqliteDb
        from desist.exceptions import StoreError
        import desist.db.backends.sqlite
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            SqliteDb(sys.argv[1])
        except StoreError as error:
            print(error)
        """
    assert "runs.db: its folder can't be used: " in child(code, folder / "runs.db")
    folder.chmod(0o755)


def test_refused_arguments(path: Path) -> None:
    """What can't work is refused by name, before anything is made."""
    with pytest.raises(ConfigurationError, match="InMemoryDb"):
        SqliteDb(":memory:")
    with pytest.raises(ConfigurationError, match="session_table='a b'"):
        SqliteDb(path, session_table="a b")
    with pytest.raises(ConfigurationError, match="either db_file= or db_url="):
        SqliteDb(path, db_url=f"sqlite:///{path}")
    with pytest.raises(ConfigurationError, match="must look like 'sqlite:///PATH'"):
        SqliteDb(db_url="postgres://somewhere")
    with pytest.raises(ConfigurationError, match="timeout=0"):
        SqliteDb(path, timeout=0)
    with pytest.raises(UnsupportedError, match="memory_table="):
        SqliteDb(path, memory_table="m")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="db= of a Workflow must be a database"):
        Workflow("W", steps=[lambda given: None], db="runs.db")
    assert not path.exists()


# -- where things are


def test_named_tables(path: Path) -> None:
    """Tables can be called after a program's own; two sets live side by side in a file that has others, too."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE mine (x); PRAGMA user_version = 7")
    ours, theirs = SqliteDb(path), SqliteDb(path, session_table="chats")
    for db, word in ((ours, "ours"), (theirs, "theirs")):
        assert Workflow("W", steps=[lambda given: given.input], db=db).run(word, session_id="s").content == word
    assert [run.content for run in theirs.get_runs("s")] == ["theirs"]
    theirs.close()
    ours.close()
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert connection.execute("PRAGMA user_version").fetchone() == (7,), "a program's own"
    others = ("runs", "run_parts", "schema", "owners", "intents", "events", "queue", "workers")
    others += ("requirements", "limits", "schedules", "followers")
    assert tables == {"mine", "desist_sessions", "chats"} | {
        f"{own}_{n}" for own in ("desist", "chats") for n in others
    }


def test_one_store_for_a_file(path: Path) -> None:
    """Objects for the same file share one writer, and it stays open until the last of them is closed."""
    first, second = SqliteDb(path), SqliteDb(db_url=f"sqlite:///{path}")
    assert first.store is second.store
    first.close()
    Workflow("W", steps=[lambda given: "done"], db=second).run(session_id="s")
    assert len(second.get_runs("s")) == 1
    second.close()


def test_a_new_folder(tmp_path: Path) -> None:
    """Folders that aren't there are made."""
    SqliteDb(tmp_path / "a" / "b" / "runs.db").close()
    JsonDb(tmp_path / "c" / "d").close()
    assert (tmp_path / "a" / "b" / "runs.db").exists()


def test_migrations_are_numbered() -> None:
    """The steps are numbered without a gap, and each can be carried out on what the ones before made."""
    assert [step.name[:4] for step in steps()] == [f"{number:04}" for number in range(1, len(steps()) + 1)]
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in steps():
            for statement in statements(step, TableNames().as_dict()):
                connection.execute(statement)


# -- several processes

WRITE = """
import sys
from desist import Workflow
from desist.db import SqliteDb

db = SqliteDb(sys.argv[1], timeout=40)
workflow = Workflow("W", steps=[lambda given, session_state: session_state.update({given.input: 1})], db=db)
for number in range(20):
    output = workflow.run(f"{sys.argv[2]}-{number}", session_id="s")
    assert output.store_error is None, output.store_error
db.close()
"""


def test_processes_write_at_a_time(path: Path) -> None:
    """Processes that open one new file at the same moment, and write at the same time, lose nothing."""
    command = [sys.executable, "-W", "error", "-c", WRITE, str(path)]
    children = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(3)]
    told = [child.communicate(timeout=50)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], told
    db = SqliteDb(path)
    session = db.get_session("s")
    assert len(session.runs) == 60
    assert len(session.session_state) == 60, "no run undid what another had changed"
    db.close()


def test_a_fork(path: Path) -> None:
    """In a forked child the database works; what the parent had left to write is written once, by the parent."""
    said = child(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is what this is about
        from desist import Workflow
        from desist.db import SqliteDb

        db = SqliteDb(sys.argv[1])
        workflow = Workflow("W", steps=[lambda given: given.input], db=db)
        workflow.run("before", session_id="s")
        db.store.add_part("no", "message", None)
        pid = os.fork()
        if pid == 0:
            workflow.run("child", session_id="s")
            assert len(db.get_runs("s")) == 2
            db.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        workflow.run("after", session_id="s")
        print([run.content for run in db.get_runs("s")])
        """,
        path,
    )
    assert said.strip() == "['before', 'child', 'after']"


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError('x')"])
def test_the_interpreter_ends(path: Path, end: str) -> None:
    """A program that simply ends has written everything, also the end of a run that was still going."""
    code = f"""
import sys, threading
from desist import Workflow
from desist.db import SqliteDb
from desist.testing import Gate

db = SqliteDb({str(path)!r})
gate = Gate()

def wait(given):
    gate.wait_blocking(30)

workflow = Workflow("W", steps=[lambda given: "one", wait], db=db)
events = workflow.run("go", stream=True, run_id="r", session_id="s")
gate.wait_reached()
workflow.update_session_state({{"n": 1}}, "s")
print("all is set up", flush=True)
{end}
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=50)
    assert done.stdout == "all is set up\n", done.stderr
    db = SqliteDb(path)
    run = db.get_run("r")
    assert (run.status, run.cancel.source.value) == (RunStatus.cancelled, "shutdown")
    assert run.step_results[0].content == "one"
    assert db.get_session("s").session_state == {"n": 1}
    db.close()


def test_nothing_is_left_over(path: Path) -> None:
    """A closed database leaves no thread, no open file, and no file beside its own."""
    before = set(os.listdir("/proc/self/fd"))
    db = SqliteDb(path)
    Workflow("W", steps=[Step("one", executor=lambda given: "done")], db=db).run(session_id="s")
    assert len(db.get_runs("s")) == 1
    db.close()
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name == "desist-db"]
    held = {os.readlink(f"/proc/self/fd/{fd}") for fd in set(os.listdir("/proc/self/fd")) - before if _is_open(fd)}
    assert not [name for name in held if "runs.db" in name]
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.mark.loud
def test_a_run_that_cant_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One damaged record costs one run: the others of its session are read, and the log says it."""
    db = SqliteDb(tmp_path / "runs.db")
    workflow = Workflow("W", steps=[lambda given: given.input], db=db)
    ids = [workflow.run(word, session_id="s").run_id for word in "abc"]
    with closing(sqlite3.connect(db.db_file)) as connection:
        connection.execute("UPDATE desist_runs SET output = '{' WHERE run_id = ?", (ids[1],))
        connection.commit()
    assert [run.content for run in db.get_runs("s")] == ["a", "c"]
    assert f"run {ids[1]} can't be read" in caplog.text
    with pytest.raises(StoreError, match=f"run {ids[1]} can't be read"):
        db.get_run(ids[1])
    db.close()


def test_awaited_by_a_workflow(tmp_path: Path) -> None:
    """A workflow takes the async database as it is."""
    db = AsyncSqliteDb(tmp_path / "runs.db")

    async def main() -> None:
        output = await Workflow("W", steps=[lambda given: "done"], db=db).arun("go", session_id="s")
        assert (await db.get_run(output.run_id)).content == "done"
        await db.close()

    asyncio.run(main())
