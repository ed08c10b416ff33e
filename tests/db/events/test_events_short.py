"""How events are written: compressed, in rows, and read back as they were emitted."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from events_workflows import PIECES
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_tables import Db, execute, open_db

from desist import Loop, Parallel, Step, StepOutput, Workflow
from desist.db.events.rows import MAX_EVENTS_PER_ROW, decoded, event_of, rows_of
from desist.db.migrations import POSTGRES, statements, steps
from desist.db.tables.sql_transaction import TableNames
from desist.run.events.agent import RunContentEvent
from desist.run.events.steps import StepOutputEvent, StepStartedEvent
from desist.run.events.workflow import WorkflowStartedEvent
from desist.run.events.workflow_base import CustomEvent
from desist.run.records.json_values import to_json_value
from desist.run.storage.event_buffer import EventBuffer

PLACES = ["sqlite", "postgres"]


@dataclass(kw_only=True, eq=False, repr=False, init=False)
class Mine(CustomEvent):
    """A program's own event."""

    event: str = "Mine"


def as_whole(event: Any) -> dict[str, Any]:
    data = to_json_value(event)
    return {name: value for name, value in json.loads(json.dumps(data)).items() if value is not None}


def read_back(events: list[Any]) -> list[Any]:
    rows = rows_of("r", list(enumerate(events)), 1)
    found = [pair for row in rows for pair in decoded(row)]
    assert [number for number, _ in found] == list(range(len(events)))
    return [event_of(data, number) for number, data in found]


_text = st.one_of(st.none(), st.text(max_size=5), st.just({"~": 1}), st.just(["a", {"b": None}]))
_made = st.builds(StepOutput, content=_text, step_name=st.sampled_from([None, "s"]), success=st.booleans())
_known = st.shared(st.lists(_made, min_size=3, max_size=3), key="made").flatmap(st.sampled_from)
_ids = st.sampled_from([None, "r", "other"])
_events = st.one_of(
    st.builds(RunContentEvent, content=_text, run_id=_ids, created_at=st.integers(0, 2), agent_id=st.just("a")),
    st.builds(StepStartedEvent, step_name=_text, run_id=_ids, step_index=st.sampled_from([None, 1, (1, 2)])),
    st.builds(StepOutputEvent, step_output=st.one_of(_made, _known), run_id=_ids),
    st.builds(WorkflowStartedEvent, run_id=_ids),
    st.builds(CustomEvent, said=_text, run_id=_ids),
    st.builds(Mine, said=_text),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_events, st.booleans()), max_size=12))
def test_any_events_come_back(pairs: list[tuple[Any, bool]]) -> None:
    """Whatever follows on whatever, pieces of text among it: each event comes back whole."""
    events = []
    for event, piece in pairs:
        if piece and isinstance(event, StepOutputEvent):
            event.is_content = True  # type: ignore[misc]
        events.append(event)
    again = read_back(events)
    assert [as_whole(event) for event in again] == [as_whole(event) for event in events]
    assert [event.is_content for event in again] == [event.is_content for event in events]


def test_a_piece_costs_little() -> None:
    """Pieces of text that differ in nothing but the text cost some ten bytes each."""
    events = [RunContentEvent(content=f"token {n}", run_id="r", agent_id="a" * 40, created_at=1) for n in range(200)]
    [row] = rows_of("r", list(enumerate(events)), 1)
    assert row.packed is not None and len(row.packed) < 200 * 12
    assert [event.content for event in read_back(events)] == [event.content for event in events]


def test_rows_are_bounded() -> None:
    """Many events are several rows; where numbers are missing a new row begins."""
    events = [RunContentEvent(content="x", run_id="r") for _ in range(2 * MAX_EVENTS_PER_ROW + 1)]
    rows = rows_of("r", [(number if number < 5 else number + 7, event) for number, event in enumerate(events)], 1)
    assert [(row.first_event, row.last_event) for row in rows][:2] == [(0, 4), (12, 11 + MAX_EVENTS_PER_ROW)]
    assert all(row.last_event - row.first_event < MAX_EVENTS_PER_ROW for row in rows)


def test_a_value_that_changes_afterwards() -> None:
    """A dict that a step goes on with is stored as it is then, each time; not as "the same object"."""
    shared = {"n": 1}
    first, second = (StepOutputEvent(step_output=StepOutput(content=shared), run_id="r") for _ in range(2))
    rows = rows_of("r", [(0, first)], 1)
    shared["n"] = 2
    rows += rows_of("r", [(1, second)], 1)
    assert [data["step_output"]["content"] for row in rows for _, data in decoded(row)] == [{"n": 1}, {"n": 2}]


def test_containers(db: Db) -> None:
    """Events of loops and parallel steps, which hold what was made in them, come back equal."""
    quick = [Step(name, executor=lambda _: "x") for name in "abc"]
    workflow = Workflow("W", steps=[Loop(steps=quick[:1], max_iterations=3), Parallel(*quick[1:], name="p")], db=db)
    live = list(workflow.run("go", stream=True, stream_events=True))
    stored = list(db.follow(live[0].run_id))
    assert [event.to_dict() for event in stored] == [event.to_dict() for event in live]


def test_events_of_a_program(db: Db) -> None:
    """A program's own events are stored with all their keys."""

    async def tell(_: Any) -> Any:
        yield Mine(progress=0.5, nested={"a": [1]})
        yield PIECES[0]

    workflow = Workflow("W", steps=[Step("tell", executor=tell)], db=db)
    run_id = workflow.run("go").run_id
    [mine] = [event for event in db.follow(run_id) if event.event == "Mine"]
    assert (mine.progress, mine.nested) == (0.5, {"a": [1]})


@pytest.mark.loud
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE desist_events SET packed = NULL, body = '[{' WHERE terminal = 0",
        "UPDATE desist_events SET packed = CAST('x' AS BLOB) WHERE terminal = 0",
    ],
)
def test_a_row_that_can_t_be_read(db: Db, place: str, damage: str) -> None:
    """Damaged events are left out, and said; the end is told."""
    run_id = Workflow("W", steps=[lambda _: "x"], db=db).run("go").run_id
    execute(place, damage.replace("BLOB", "BYTEA" if "://" in place else "BLOB"))
    assert [event.event for event in db.follow(run_id)] == ["WorkflowCompleted"]


@pytest.mark.loud
def test_a_database_that_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What waits for a database is bounded: what is over isn't stored, and that is said. The last event is kept."""
    woken: list[EventBuffer] = []
    buffer = EventBuffer("r", woken.append)
    for number in range(100_010):
        buffer.number(RunContentEvent(content="x"), number)
    buffer.end([RunContentEvent(content="last")], 100_010)
    waiting = buffer.take_all()
    assert len(woken) == 1 and len(waiting) == 100_001 and waiting[-1][0] == 100_010
    assert "the database is too slow" in caplog.text


def test_order_of_many_writers(db: Db) -> None:
    """Branches that tell at the same time: each event has its number, none is missing."""

    async def tell(_: Any) -> Any:
        for number in range(50):
            yield f"{number} "
            await asyncio.sleep(0)

    steps = [Step(name, executor=tell) for name in ("a", "b", "c")]
    live = list(Workflow("W", steps=[Parallel(*steps, name="p")], db=db).run("go", stream=True, stream_events=True))
    stored = list(db.follow(live[0].run_id))
    assert [event.event_index for event in stored] == list(range(len(live)))
    assert [event.to_dict() for event in stored] == [event.to_dict() for event in live]


#: A row of version 0006: two pieces of one kind, a step's output that a later event names, and a field that is gone.
OLD = (
    '[{"event":"RunContent","run_id":"r","agent_id":"a","content":"half ","event_at":1.5,"~":0},{"content":"a story"},'
    '{"event":"StepOutput","run_id":"r","step_name":"s","step_output":{"~":0,"content":"made"},"~":1},'
    '{"step_name":null,"step_output":{"~":0}},{"~":0,"content":"!","agent_id":null}]'
)


def test_rows_of_an_older_version(db: Db, place: str) -> None:
    """What a version before 0007 has stored is read whole, beside rows of this one, and still as their end."""
    run_id = Workflow("W", steps=[lambda _: "x"], db=db).run("go").run_id
    db.flush()  # type: ignore[attr-defined]
    execute(place, f"DELETE FROM desist_events WHERE run_id = '{run_id}' AND terminal = 0")
    execute(place, "UPDATE desist_events SET first_event = 5, last_event = 5")
    execute(
        place,
        "INSERT INTO desist_events (run_id, first_event, last_event, epoch, terminal, body)"
        f" VALUES ('{run_id}', 0, 4, 1, 0, '{OLD}')",
    )
    events: list[Any] = list(db.follow(run_id))
    assert [event.event for event in events] == ["RunContent"] * 2 + ["StepOutput"] * 2 + ["RunContent"] + [
        "WorkflowCompleted"
    ]
    assert [event.event_index for event in events] == list(range(6))
    assert [(events[at].content, events[at].agent_id) for at in (0, 1, 4)] == [
        ("half ", "a"),
        ("a story", "a"),
        ("!", ""),
    ]
    assert [(event.step_name, event.step_output.content) for event in events[2:4]] == [("s", "made"), (None, "made")]
    assert events[-1].content == "x"
    execute(place, f"UPDATE desist_events SET packed = NULL, body = '{TERMINAL}' WHERE terminal = 1")
    assert [event.event for event in db.follow(run_id, 4)] == ["WorkflowCompleted"]


def test_a_database_of_an_older_version(db: Db, place: str) -> None:
    """Tables that stand at step 6, with rows of that version, are brought to the last step when opened, and read."""
    run_id = Workflow("W", steps=[lambda _: "x"], db=db).run("go").run_id
    db.close()  # type: ignore[attr-defined]
    execute(place, "DELETE FROM desist_events WHERE terminal = 0")
    execute(place, "ALTER TABLE desist_events DROP COLUMN packed")
    for table in ("queue", "workers", "limits", "schedules", "followers", "requirements"):
        execute(place, f"DROP TABLE desist_{table}")
    for statement in statements(steps()[5], TableNames().as_dict(), POSTGRES if "postgresql" in place else None):
        execute(place, statement)
    execute(place, "UPDATE desist_schema SET version = 6")
    execute(place, f"UPDATE desist_events SET first_event = 5, last_event = 5, body = '{TERMINAL}'")
    execute(place, f"INSERT INTO desist_events VALUES ('{run_id}', 0, 4, 1, 0, '{OLD}')")
    with closing(open_db(place)) as again:
        events: list[Any] = list(again.follow(run_id))
        assert [getattr(event, "content", None) for event in events if event.event == "RunContent"] == [
            "half ",
            "a story",
            "!",
        ]
        assert (events[-1].event, events[-1].content) == ("WorkflowCompleted", "x")
        fresh = Workflow("W", steps=[lambda _: "y"], db=again).run("go").run_id
        assert list(again.follow(fresh))[-1].content == "y"


TERMINAL = '[{"event":"WorkflowCompleted","run_id":"r","status":"COMPLETED"}]'
