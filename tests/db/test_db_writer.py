"""The writer: what it does together, what it does when something fails, and that nobody waits for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from desist.db.writer import BackendBusy, WriteJob, Writer
from desist.exceptions import StoreError


class Notebook:
    """A backend that writes into a list, when it is let."""

    name = "notebook"
    apart = False

    def __init__(self) -> None:
        self.pages: list[list[Any]] = []  #: what was written together
        self.busy = False
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()
        self.detached = 0

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        self.reached.set()
        assert self.open.wait(30)
        if self.busy:
            raise BackendBusy("somebody else writes")
        made = [job.work(self) for job in jobs]
        self.pages.append(made)
        return made

    def detach(self) -> Callable[[], None]:
        self.detached += 1
        return lambda: None

    def hold(self) -> None:
        """Keep the next batch waiting."""
        self.reached.clear()
        self.open.clear()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def writer(notebook: Notebook) -> Iterator[Writer]:
    made = Writer(notebook, timeout=30)
    yield made
    notebook.open.set()
    made.close(30)


def value(result: Any) -> Callable[[Any], Any]:
    return lambda backend: result


def test_together_and_in_order(notebook: Notebook, writer: Writer) -> None:
    """What comes while the backend writes is written together next, in the order in which it came."""
    notebook.hold()
    first = writer.put(value("first"))
    assert notebook.reached.wait(30)
    writer.put_droppable(value("part"))
    futures = [writer.put(value(number)) for number in range(5)]
    notebook.open.set()
    assert [first.result(30), *(future.result(30) for future in futures)] == ["first", 0, 1, 2, 3, 4]
    assert notebook.pages == [["first"], ["part", 0, 1, 2, 3, 4]]


def test_a_bad_job_harms_no_other(notebook: Notebook, writer: Writer) -> None:
    """A job that fails fails alone; those that came with it are done."""

    def bad(backend: Any) -> None:
        raise ValueError("bad")

    notebook.hold()
    writer.put(value("first"))
    assert notebook.reached.wait(30)
    good, failing, also_good = writer.put(value(1)), writer.put(bad), writer.put(value(2))
    notebook.open.set()
    assert (good.result(30), also_good.result(30)) == (1, 2)
    with pytest.raises(StoreError, match="notebook: bad"):
        failing.result(30)


@pytest.mark.loud
def test_parts_that_fail_are_said_once(notebook: Notebook, writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """That finished work can't be written is an error in the log, once until something can be written again."""

    def bad(backend: Any) -> None:
        raise ValueError("the disk is full")

    notebook.hold()
    for _ in range(3):
        writer.put_droppable(bad)
    notebook.open.set()
    assert writer.flush(30)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == ["checkpoints and events of runs can't be written to notebook: the disk is full"]


def test_nobody_waits_for_ever(notebook: Notebook) -> None:
    """Whoever waits is told in time that a job isn't done, whatever the backend does; it is done later all the same."""
    writer = Writer(notebook, timeout=0.05)
    notebook.hold()
    stuck, behind = writer.put(value("stuck")), writer.put(value("behind"))
    for future in (stuck, behind):
        with pytest.raises(StoreError, match=r"notebook did not store this within 0\.05 s"):
            future.result(30)
    notebook.open.set()
    writer.close(30)
    assert [entry for page in notebook.pages for entry in page] == ["stuck", "behind"]


def test_a_busy_backend_is_tried_again(notebook: Notebook, writer: Writer) -> None:
    """While another process writes nothing is lost."""
    notebook.busy = True
    future = writer.put(value("done"))
    assert notebook.reached.wait(30)
    notebook.busy = False
    assert future.result(30) == "done"


def test_closing_does_what_is_left(notebook: Notebook, writer: Writer) -> None:
    """What was put before it is closed is written; what comes later is refused."""
    notebook.hold()
    writer.put(value("first"))
    assert notebook.reached.wait(30)
    last = writer.put(value("last"))
    threading.Thread(target=notebook.open.set).start()
    writer.close(30)
    assert last.result(0) == "last"
    assert not writer.put_droppable(value("late"))
    with pytest.raises(StoreError, match="notebook is closed"):
        writer.put(value("late")).result(0)
    assert notebook.detached == 1


def test_an_idle_thread_ends(notebook: Notebook, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without work the thread ends and lets go of the backend; the next job starts another."""
    monkeypatch.setattr("desist.db.writer.IDLE", 0.001)
    assert writer.put(value(1)).result(30) == 1
    thread = writer._thread
    if thread is not None:
        thread.join(30)
    assert notebook.detached == 1
    assert writer.put(value(2)).result(30) == 2


@pytest.mark.parametrize("limit", [10])
def test_it_is_bounded(notebook: Notebook, writer: Writer, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is too slow makes nobody wait and fills no memory: parts are refused first, then the rest."""
    monkeypatch.setattr("desist.db.writer.LIMIT", limit)
    notebook.hold()
    writer.put(value("first"))
    assert notebook.reached.wait(30)
    assert sum(writer.put_droppable(value(number)) for number in range(limit)) == limit // 2
    futures = [writer.put(value(number)) for number in range(limit)]
    refused = [future for future in futures if future.done()]
    assert len(refused) == limit - limit // 2
    with pytest.raises(StoreError, match="writes already wait for notebook"):
        refused[0].result(0)
