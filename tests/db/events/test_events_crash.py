"""Killed, frozen and taken over: what followers hear, what the store holds, and what is kept of the text."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from database_worker import Worker
from events_workflows import PIECES, answer, says, story, texts, told
from raw_tables import Db, execute, taken_for_dead

from desist.db.events.rows import OWNER_STRIDE
from desist.run.events.base import RunStatus
from desist.testing import Gate

PLACES = ["sqlite", "postgres"]
S = RunStatus
Start = Callable[[], Worker]


def heard(reader: Any, last: str) -> list[Any]:
    """Read on until this piece of text."""
    events = [next(reader)]
    while says(events[-1]) != last:
        events.append(next(reader))
    return events


@pytest.mark.parametrize(
    ("kind", "last", "text"), [("story", PIECES[1], "one two "), ("answer", "answer", "half an answer")]
)
def test_killed_in_mid_stream(worker: Start, db: Db, kind: str, last: str, text: str) -> None:
    """The follower itself ends the run whose process is gone, and hears it; the text told by then is in the record."""
    other = worker()
    other.start(kind, "r", flush=True)
    reader = db.follow("r")
    before = heard(reader, last)
    other.kill()
    rest = list(reader)
    assert (rest[-1].event, rest[-1].run_id) == ("WorkflowError", "r")
    assert [event.event_index for event in (*before, *rest)] == [
        *range(len(before)),
        *range(OWNER_STRIDE, OWNER_STRIDE + len(rest)),
    ]
    output = db.get_run("r")
    assert (output.status, output.content) == (S.error, text)
    [*_, step] = output.step_results
    assert (step.content, step.cancelled, step.success) == (text, True, False)


def test_the_ends_of_its_agents_are_told(worker: Start, db: Db) -> None:
    """A run that was heard in the stream has its end told, before the run that it was part of."""
    other = worker()
    other.start("answer", "r", flush=True)
    other.kill()
    events = list(db.follow("r"))
    started = next(event for event in events if event.event == "RunStarted")
    [child, last] = [event for event in events if event.is_terminal]
    assert (child.event, child.run_id, child.step_name) == ("RunError", started.run_id, "Writer")
    assert last.event == "WorkflowError"
    inner = db.get_run(child.run_id)
    assert (inner.content, inner.messages[-1].content, inner.messages[-1].cancelled) == ("half an answer",) * 2 + (
        True,
    )


def test_seen_but_not_stored(worker: Start, db: Db) -> None:
    """Who had heard more than the dead process came to store isn't left waiting: the end has a number beyond."""
    other = worker()
    other.start("story", "r")
    db.flush()
    other.kill()
    [last] = db.follow("r", 10**6)
    assert last.event == "WorkflowError"


@pytest.mark.parametrize(
    ("kind", "last", "text"), [("story", PIECES[1], "one two "), ("answer", "answer", "half an answer")]
)
def test_frozen_and_cancelled(worker: Start, db: Db, kind: str, last: str, text: str) -> None:
    """A forced take from a process that doesn't answer keeps the text, too; what that one tells later isn't stored."""
    other = worker()
    other.start(kind, "r", flush=True)
    reader = db.follow("r")
    heard(reader, last)
    other.signal(signal.SIGSTOP)
    assert db.cancel("r", reason="no answer").wait(40)
    rest = list(reader)
    assert (rest[-1].event, rest[-1].reason, rest[-1].content) == ("WorkflowCancelled", "no answer", text)
    before = told(list(db.follow("r")))
    other.signal(signal.SIGCONT)
    other.hear("end", "r")
    assert told(list(db.follow("r"))) == before
    output = db.get_run("r")
    assert (output.status, output.content) == (S.cancelled, text)


def test_cancelled_while_nobody_works_on_it(worker: Start, db: Db) -> None:
    """A run of a dead process that is cancelled keeps what it had said."""
    other = worker()
    other.start("story", "r", on_crash="resume", flush=True)
    reader = db.follow("r")
    heard(reader, PIECES[1])
    other.kill()
    assert db.cancel("r", reason="down").wait(30)
    last = list(reader)[-1]
    assert (last.event, last.content) == ("WorkflowCancelled", "one two ")


def test_resumed(worker: Start, db: Db) -> None:
    """A follower goes on with a run that another process takes up: numbers rise, nothing is missing, one end."""
    one, two = worker(), worker()
    one.start("story", "r", on_crash="resume", flush=True)
    reader = db.follow("r")
    events = heard(reader, PIECES[1])
    one.kill()
    two.tell("resume", "r", kind="story")
    assert two.hear("resumed", "r")["runs"] == ["r"]
    two.hear("at", "r")
    events += heard(reader, PIECES[1])
    second, so_far = db.follow("r", events[-1].event_index), len(events)
    two.tell("open", "r")
    events += reader
    assert told(list(second)) == told(events[so_far:])
    numbers = [event.event_index for event in events]
    assert numbers == sorted(set(numbers))
    later = [number for number in numbers if number >= OWNER_STRIDE]
    assert later == list(range(OWNER_STRIDE, OWNER_STRIDE + len(later)))
    assert [event.event for event in events].count("WorkflowCompleted") == 1
    done = [event.step_name for event in events if event.event == "StepCompleted"]
    assert sorted(done) == ["first", "last", "tell"], "what had finished isn't run or told again"
    assert told(list(db.follow("r"))) == told(events)


def test_resumed_here(worker: Start, db: Db) -> None:
    """In the process that goes on with it, a run is followed from before the crash, too."""
    other = worker()
    other.start("story", "r", on_crash="resume", flush=True)
    other.kill()
    gate = Gate()
    workflow = story(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs() == ["r"]
    reader = workflow.follow("r")
    events = heard(reader, PIECES[1]) + heard(reader, PIECES[1])
    gate.open()
    events += reader
    assert (events[0].event_index, events[-1].status) == (0, S.completed)
    assert list(dict.fromkeys(texts(events))) == list(PIECES)


def test_a_zombie_s_events_are_refused(worker: Start, db: Db, place: str) -> None:
    """A frozen worker whose run went on elsewhere wakes up: nothing of what it tells is stored."""
    other = worker()
    other.start("story", "r", on_crash="resume", flush=True)
    other.signal(signal.SIGSTOP)
    taken_for_dead(place, other.process.pid)
    gate = Gate()
    workflow = story(gate, db, on_crash="resume")
    assert workflow.resume_lost_runs() == ["r"]
    gate.wait_reached()
    other.tell("open", "r")  # it tells more as soon as it wakes
    other.signal(signal.SIGCONT)
    other.hear("end", "r")
    gate.open()
    events = list(workflow.follow("r"))
    db.flush()
    assert events[-1].status is S.completed
    assert told(list(db.follow("r"))) == told(events)
    assert execute(place, "SELECT max(last_event) FROM desist_events WHERE epoch = 1")[0][0] < OWNER_STRIDE
    assert execute(place, "SELECT epoch FROM desist_events WHERE terminal = 1") == [(2,)]
    assert texts([event for event in events if event.event_index < OWNER_STRIDE]) == list(PIECES[:2])


def test_a_follower_of_a_zombie_s_run(worker: Start, db: Db, place: str) -> None:
    """When a lease runs out, whoever follows ends the run: nobody waits for ever."""
    other = worker()
    other.start("story", "r", flush=True)
    reader = db.follow("r")
    heard(reader, PIECES[1])
    other.signal(signal.SIGSTOP)
    taken_for_dead(place, other.process.pid)
    last = list(reader)[-1]
    assert last.event == "WorkflowError" and "lease" in last.error


def test_one_terminal_event(worker: Start, db: Db, place: str) -> None:
    """The database itself holds it: a second last event of a run can't be written."""
    other = worker()
    for number in range(3):
        other.start("story", f"r{number}")
    db.cancel("r0")
    for number in range(3):
        other.tell("open", f"r{number}")
        other.hear("end", f"r{number}")
    assert execute(place, "SELECT run_id, count(*) FROM desist_events WHERE terminal = 1 GROUP BY run_id") == [
        (f"r{number}", 1) for number in range(3)
    ]
    columns = "run_id, first_event, last_event, epoch, terminal, body"
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        execute(place, f"INSERT INTO desist_events ({columns}) VALUES ('r1', 99, 99, 1, 1, '[]')")


def test_stored_together_with_the_end(worker: Start, db: Db, place: str) -> None:
    """A run has a last event exactly if its record has an end: they are one transaction."""
    other, gate = worker(), Gate()
    other.start("answer", "r")
    gate.open()
    answer(gate, db).run("go", run_id="here")
    db.flush()
    final = execute(place, "SELECT run_id FROM desist_runs WHERE parent_run_id IS NULL AND status = 'COMPLETED'")
    assert execute(place, "SELECT run_id FROM desist_events WHERE terminal = 1") == final == [("here",)]
