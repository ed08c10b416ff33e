"""What databases store of values of any kind: every database gives back what `SqliteDb` gives back."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

from desist import Agent, RunStatus, Workflow
from desist.db import BaseDb, SqliteDb
from desist.testing import Call, ScriptedModel
from desist.tools.function import Function


class Model(pydantic.BaseModel):
    number: int = 1
    day: dt.date = dt.date(2020, 1, 1)
    several: set[int] = {2}


@dataclasses.dataclass
class Record:
    number: int = 1
    inner: Any = None


class Colour(enum.Enum):
    red = "RED"


class Text:
    def __str__(self) -> str:
        return "text of it"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "nan": lambda: math.nan,
    "infinity": lambda: -math.inf,
    "negative zero": lambda: -0.0,
    "bytes": lambda: b"\xff\x00",
    "bytearray": lambda: bytearray(b"a"),
    "memoryview": lambda: memoryview(b"a"),
    "set": lambda: {3, 1, 2},
    "mixed set": lambda: {1, "a", None},
    "frozenset": lambda: frozenset([1]),
    "tuple": lambda: (1, (2,)),
    "datetime": lambda: dt.datetime(2020, 1, 1),
    "aware": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "date": lambda: dt.date(2020, 1, 1),
    "time": lambda: dt.time(1),
    "timedelta": lambda: dt.timedelta(days=1),
    "surrogate": lambda: "\ud800x",
    "surrogate pair": lambda: "\ud83d\ude00",
    "NUL": lambda: "a\x00b",
    "line separator": lambda: "a\u2028b",
    "huge": lambda: 10**40,
    "beyond 64 bits": lambda: 2**64,
    "below 64 bits": lambda: -(2**63) - 1,
    "decimal": lambda: decimal.Decimal("1.50"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "complex": lambda: 1 + 2j,
    "uuid": lambda: uuid.UUID(int=1),
    "enum": lambda: Colour.red,
    "dataclass": lambda: Record(1, Record()),
    "pydantic": Model,
    "list of pydantic": lambda: [Model(), Model(number=2)],
    "odd keys": lambda: {1: 2, (1, 2): 3, None: 4, Colour.red: 6, "\ud800": 7},
    "str": Text,
    "str that raises": Mute,
    "path": lambda: pathlib.PurePosixPath("/x"),
    "cycle": cycle,
    "deep": lambda: nested(200),
    "defaultdict": lambda: collections.defaultdict(int, a=1),
    "ordered": lambda: collections.OrderedDict(b=1, a=2),
    "deque": lambda: collections.deque([1]),
    "function": lambda: len,
    "class": lambda: int,
    "ellipsis": lambda: ...,
    "exception": lambda: ValueError("x"),
    "range": lambda: range(3),
    "none inside": lambda: {"a": None, "b": [None]},
    "empty": dict,
}


def given(db: BaseDb, value: Callable[[], Any]) -> list[Any]:
    """Store a value in every place that takes one; return what is read back."""
    found: list[Any] = []

    def step(_: Any, session_state: dict[str, Any]) -> Any:
        session_state["key"] = value()
        return value()

    workflow = Workflow("W", steps=[step], db=db)
    more = {"metadata": {"key": value()}, "additional_data": {"key": value()}}
    output = workflow.run({"key": value()}, run_id="w", session_id="s", **more)
    assert (output.status, output.store_error) == (RunStatus.completed, None)
    for read in (db.get_run("w"), workflow.get_run_output("w"), db.get_runs("s")[0]):
        found += [read.content, read.step_results[0].content, read.input, read.metadata, read.additional_data]
    found += [db.get_session("s").session_state, workflow.get_session_state()]
    agent = Agent(ScriptedModel([Call("t", {}), "ok"]), tools=[Function("t", entrypoint=lambda: value())], db=db)
    assert agent.run("x", run_id="a", session_id="t", metadata={"key": value()}).store_error is None
    read = db.get_run("a")
    return [*found, read.metadata, read.tools[0].result, [message.content for message in read.messages]]


@pytest.mark.parametrize("name", VALUES)
def test_every_database_stores_what_sqlite_stores(name: str, db: BaseDb, tmp_path: Path) -> None:
    """As content, input, metadata, session state and result of a tool."""
    reference = SqliteDb(tmp_path / "reference.db")
    assert repr(given(db, VALUES[name])) == repr(given(reference, VALUES[name]))
    reference.close()


def test_what_is_read_shares_nothing_with_the_run(db: BaseDb) -> None:
    """A change of the output, or of what was read, changes nothing that is stored."""
    output = Workflow("W", steps=[lambda _: {"a": [1]}], db=db).run("x", run_id="w", session_id="s")
    output.content["a"].append(2)
    db.get_run("w").content["a"].append(3)
    db.get_session("s").runs[0].content["a"].append(4)
    assert db.get_run("w").content == {"a": [1]}
