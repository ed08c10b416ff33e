"""Forks of a process that uses a database: parent and child both go on with it, and neither loses a write."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

BEGIN = """
    import fcntl, multiprocessing, os, sys, threading
    from desist import Step, Workflow
    from desist.db import JsonDb, SqliteDb
    from desist.db.backends import sqlite_connections
    from desist.exceptions import StoreError

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    def run(run_id):
        output = Workflow("W", steps=[Step("one", executor=lambda step: "1")], db=db).run("go", run_id=run_id)
        say(run_id, output.status.value, output.store_error)

    def pass_gate(ends):
        os.read(ends[0], 1)

    def open_gate(ends):
        os.write(ends[1], b"x")

    def fork(child):
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except BaseException as error:
                say("child failed:", repr(error))
            os._exit(0)
        return pid

    db = SqliteDb(sys.argv[1])
"""


def lines_of(program: str, place: Path) -> list[str]:
    """Run a program on a database; return what it says."""
    command = [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(program), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_fork_waits_for_the_transaction_of_the_writer(tmp_path: Path) -> None:
    """A child forked while its parent writes can write, and so can the parent afterwards."""
    program = """
    forking, forked, inside = threading.Event(), threading.Event(), threading.Event()

    def write(tables):
        inside.set()
        forking.wait(10)
        forked.wait(0.5)  # a fork that doesn't wait for this transaction happens now

    os.register_at_fork(before=forking.set, after_in_parent=forked.set)
    done = db.store.writer.put(write)
    inside.wait(10)
    os.waitpid(fork(lambda: run("child")), 0)
    done.result(10)
    run("parent")
    say(db.get_run("child").status.value)
    """
    assert lines_of(program, tmp_path / "runs.db") == ["child COMPLETED None", "parent COMPLETED None", "COMPLETED"]


def test_the_locks_of_a_forked_child_are_its_own(tmp_path: Path) -> None:
    """A child goes on writing when its parent closes the database: the parent doesn't take itself for the last user.

    SQLite takes no lock for a connection of a process in which another connection already has that lock. A child that
    has inherited the note of it holds none: its parent's `close` then removes the log that the child writes into.
    """
    program = """
    run("before")
    with db.store.backend.reading():
        pass  # leaves a connection for readers
    changes = db.store.backend.changes()
    changes.seen()
    written, closed = os.pipe(), os.pipe()

    def child():
        run("child 1")
        open_gate(written)
        pass_gate(closed)
        run("child 2")
        say(db.get_run("before").status.value)

    pid = fork(child)
    pass_gate(written)
    changes.close()
    db.close()
    open_gate(closed)
    os.waitpid(pid, 0)
    db = SqliteDb(sys.argv[1])
    say(*(db.get_run(f"child {n}").status.value for n in (1, 2)))
    """
    assert lines_of(program, tmp_path / "runs.db") == [
        "before COMPLETED None",
        "child 1 COMPLETED None",
        "child 2 COMPLETED None",
        "COMPLETED",
        "COMPLETED COMPLETED",
    ]


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param("pid = fork(child); wait = lambda: os.waitpid(pid, 0)", id="os.fork"),
        pytest.param(
            "one = multiprocessing.get_context('fork').Process(target=child); one.start(); wait = one.join",
            id="multiprocessing",
        ),
    ],
)
def test_parent_and_child_write_at_the_same_time(begin: str, tmp_path: Path) -> None:
    """Parent and child each write 200 rows at once: none is lost, none fails, and the file is sound."""
    program = """
    from desist.run.outputs.workflow import WorkflowRunOutput
    from desist.run.events.base import RunStatus

    def write_all(name):
        for n in range(200):
            db.upsert_run(WorkflowRunOutput(run_id=f"{name} {n}", session_id=name, status=RunStatus.completed))
        with db.store.backend.reading() as tables:
            say(name, len(tables.runs.of_session(name, None, None, None, "all")))

    changes = db.store.backend.changes()
    changes.seen()
    db.upsert_run(WorkflowRunOutput(run_id="first", status=RunStatus.completed))
    db.get_run("first")
    ready, go = os.pipe(), os.pipe()

    def child():
        open_gate(ready)
        pass_gate(go)
        write_all("child")
    BEGIN
    pass_gate(ready)
    open_gate(go)
    write_all("parent")
    wait()
    say(changes.seen())
    """
    place = tmp_path / "runs.db"
    said = lines_of(program.replace("BEGIN", begin), place)
    assert sorted(said[:2]) == ["child 200", "parent 200"] and said[2:] == ["True"]
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM desist_runs").fetchone() == (401,)


def test_a_fork_waits_for_a_reader_in_another_thread(tmp_path: Path) -> None:
    """A child forked while a thread reads has locks of its own; the reader sees all that it reads."""
    program = """
    run("before")
    forking, reading, ended = threading.Event(), threading.Event(), threading.Event()

    def read():
        with db.store.backend.reading() as tables:
            reading.set()
            forking.wait(10)
            say(tables.runs.get("before").status)
        ended.set()

    os.register_at_fork(before=forking.set)  # the last one registered comes first
    threading.Thread(target=read).start()
    reading.wait(10)
    os.waitpid(fork(lambda: (say(ended.is_set()), run("child"))), 0)
    run("parent")
    """
    assert lines_of(program, tmp_path / "runs.db") == [
        "before COMPLETED None",
        "COMPLETED",
        "True",
        "child COMPLETED None",
        "parent COMPLETED None",
    ]


def test_a_child_forked_in_the_middle_of_a_use_is_refused(tmp_path: Path) -> None:
    """A fork doesn't wait for ever. Its child, whose locks would not be real, gets an error and never writes.

    The worst moment: the thread that forks is itself in a transaction, so there is nothing to wait for.
    """
    program = """
    sqlite_connections.FORK_TIMEOUT = 0.1

    def child():
        try:
            db.get_run("parent")
        except StoreError as error:
            say(error)
        try:
            SqliteDb(sys.argv[1], session_table="other")
        except StoreError as error:
            say("other:", error)

    def write(tables):
        os.waitpid(fork(child), 0)

    db.store.writer.put(write).result(10)
    with db.store.backend.reading():
        thread = threading.Thread(target=lambda: os.waitpid(fork(child), 0))
        thread.start()
        thread.join()
    run("parent")
    """
    place = tmp_path / "runs.db"
    words = f"{place}: this process was forked while its parent used the database: use the start method 'spawn'"
    refused = [line.partition(", or")[0] for line in lines_of(program, place)]
    assert refused == [words, f"other: {words}", words, f"other: {words}", "parent COMPLETED None"]


def test_a_child_forked_during_a_write_of_json_files_holds_no_lock(tmp_path: Path) -> None:
    """The lock of a folder ends with the parent's write, although a child has inherited the open file."""
    program = """
    db = JsonDb(sys.argv[1] + ".json")
    inside, leave = threading.Event(), threading.Event()

    def write(tables):
        inside.set()
        leave.wait(10)

    done = db.store.writer.put(write)
    inside.wait(10)
    end = os.pipe()
    pid = fork(lambda: (pass_gate(end)))
    leave.set()
    done.result(10)
    run("parent")
    open_gate(end)
    os.waitpid(pid, 0)
    """
    assert lines_of(program, tmp_path / "runs.db") == ["parent COMPLETED None"]
