"""Events and outputs to dicts, JSON lines and frames, and back."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import pathlib
import typing
import uuid
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desist.cancel.reason import Source
from desist.exceptions import DesistError
from desist.run import agent, workflow
from desist.run.events import codec
from desist.run.events.base import Abandoned, CancellationStage, CancelRecord, RunStatus
from desist.run.events.registry import AGENT_EVENTS, WORKFLOW_EVENTS
from desist.run.records import run_requirement, step_requirement
from desist.run.records.json_values import dump, to_json_value
from desist.run.records.message import Message, ToolCall, ToolExecution
from desist.run.records.metrics import RunMetrics

KINDS = [*AGENT_EVENTS.values(), *WORKFLOW_EVENTS.values()]
OUTPUTS = [agent.RunOutput, workflow.WorkflowRunOutput]

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
small = st.integers(-(2**31), 2**31)
reals = st.floats(allow_nan=False, allow_infinity=False)


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Build values for a field's type; None isn't sent, so a field that may be None is left at its default then."""
    origin, args = typing.get_origin(hint), [a for a in typing.get_args(hint) if a is not type(None)]
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return st.one_of([st.none()] * (len(args) < len(typing.get_args(hint))) + [of_type(a) for a in args])
    if origin is list:
        return st.lists(of_type(args[0]), max_size=2)
    if origin is tuple:
        return st.lists(st.integers(0, 9), min_size=1, max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(texts, values if args[1] is Any else of_type(args[1]), max_size=2)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if hint in BY_TYPE:
        return BY_TYPE[hint]
    if dataclasses.is_dataclass(hint):
        return record(typing.cast("type", hint))
    return st.sampled_from(list(hint))  # an enum


def record(kind: type) -> st.SearchStrategy[Any]:
    """Build instances of a dataclass from the types of its fields."""
    known = {"WorkflowRunOutput": workflow.WorkflowRunOutput, **vars(run_requirement), **vars(step_requirement)}
    hints = typing.get_type_hints(kind, localns=known)
    parts = {
        f.name: of_type(hints[f.name])
        for f in dataclasses.fields(kind)
        if f.name not in {"event", "run_output", "events", "step_executor_runs", "workflow_agent_run"}
        and not f.name.endswith("requirements")  # tests/pausing stores and loads them
    }
    return st.fixed_dictionaries({}, optional=parts).flatmap(lambda given: complete(kind, parts, given))


def complete(kind: type, parts: dict[str, Any], given: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Add what has no default, and leave out None where the default is something else."""
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    required = {
        f.name: parts[f.name].filter(lambda v: v is not None)
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and given.get(f.name) is None
    }
    kept = {name: value for name, value in given.items() if value is not None or defaults[name] is None}
    return st.fixed_dictionaries(required).map(lambda more: kind(**(kept | more)))


BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: small,
    bool: st.booleans(),
    float: reals,
    Any: values,
}


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@settings(max_examples=12, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.__module__.rsplit('.')[-1]}.{k.__name__}")
def test_every_event_comes_back_as_it_was(kind: type[agent.BaseAgentRunEvent], data: st.DataObject) -> None:
    """For every event class: dict, JSON and back gives an equal event of the same class."""
    event = data.draw(record(kind))
    sent = codec.to_dict(event)
    assert sent == event.to_dict() == json.loads(codec.to_json(event)) == json.loads(event.to_json())
    back = codec.event_from_dict(json.loads(codec.to_json(event)))
    assert type(back) is kind
    assert back == event
    assert None not in sent.values()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_output_comes_back_as_it_was(kind: type[agent.RunOutput], data: st.DataObject) -> None:
    """Outputs, with their events and inner runs, survive JSON."""
    output = data.draw(record(kind))
    output.events = [data.draw(record(agent.RunContentEvent)), data.draw(record(agent.RunCancelledEvent))]
    if isinstance(output, workflow.WorkflowRunOutput):
        inner = workflow.WorkflowRunOutput(run_id="nested", status=RunStatus.cancelled)
        output.step_executor_runs = [agent.RunOutput(run_id="child", status=RunStatus.completed), inner]
        output.workflow_agent_run = data.draw(record(agent.RunOutput))
        output.events.append(data.draw(record(workflow.StepCancelledEvent)))
    back = kind.from_dict(json.loads(output.to_json()))
    assert back == output
    assert [type(e) for e in back.events or []] == [type(e) for e in output.events]


def test_inner_parts_come_back_as_their_classes() -> None:
    """Messages, tools, metrics, statuses and the cancel record are objects again, not dicts."""
    output = agent.RunOutput(
        run_id="r",
        input=agent.RunInput(input_content="hi"),
        messages=[Message("assistant", None, tool_calls=[ToolCall(id="1", name="t", arguments="{}")])],
        tools=[ToolExecution(tool_name="t", cancelled=True)],
        metrics=RunMetrics(input_tokens=3),
        status=RunStatus.cancelled,
        cancellation_stage=CancellationStage.executing,
        cancel=CancelRecord(source=Source.user, abandoned=[Abandoned(name="t", kind="tool")], upstream_closed=1),
    )
    back = agent.RunOutput.from_dict(through_json(output.to_dict()))
    assert back == output
    assert back.messages and isinstance(back.messages[0].tool_calls, list)
    assert isinstance(back.messages[0].tool_calls[0], ToolCall)
    assert back.status is RunStatus.cancelled and back.cancel and back.cancel.source is Source.user


def test_a_completed_event_never_sends_its_run_output() -> None:
    """run_output stays in the process, though it may hold the event itself."""
    output = workflow.WorkflowRunOutput(run_id="r")
    event = workflow.WorkflowCompletedEvent(run_id="r", run_output=output)
    output.events = [event]
    assert "run_output" not in event.to_dict()
    assert "run_output" not in output.to_dict()["events"][0]


class Colour(enum.Enum):
    red = "RED"


class Model(pydantic.BaseModel):
    a: int | None = None
    when: dt.datetime = dt.datetime(2026, 1, 2, 3, 4, 5)


@dataclasses.dataclass
class Point:
    x: int
    y: int | None = None


class WithDict:
    def to_dict(self) -> dict[str, Any]:
        return {"made": {1}, "none": None}


class Broken:
    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


Pair = collections.namedtuple("Pair", "a b")


PLAIN: list[tuple[Any, Any]] = [
    (Model(), {"a": None, "when": "2026-01-02T03:04:05"}),
    (Point(1), {"x": 1}),
    (WithDict(), {"made": [1]}),
    (Colour.red, "RED"),
    (RunStatus.cancelled, "CANCELLED"),
    ({Colour.red: 1, 2: 2, (1, 2): 3, None: 4}, {"RED": 1, "2": 2, "(1, 2)": 3, "None": 4}),
    (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.timedelta(milliseconds=1500), 1.5),
    (b"\xff\x00", "/wA="),
    (bytearray(b"a"), "YQ=="),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a", 1}), [1, "a", "b"]),
    ((1, (2,)), [1, [2]]),
    (Pair(1, 2), [1, 2]),
    (math.nan, None),
    ([math.inf, 1.5], [None, 1.5]),
    (2**64, str(2**64)),
    ("a\ud800b", "a�b"),
    ("\ud83d\ude00", "\U0001f600"),
    (pathlib.PurePosixPath("/a"), "/a"),
    (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    (ValueError("bad"), "bad"),
    (Broken(), "<Broken>"),
    (Point, str(Point)),
    (True, True),
]


@pytest.mark.parametrize("number", range(len(PLAIN)), ids=lambda n: f"{n}-{type(PLAIN[n][0]).__name__}")
def test_every_value_has_a_plain_form(number: int) -> None:
    """Models, dataclasses, enums, times, bytes, sets, NaN, surrogates, huge ints and hopeless objects are sent."""
    value, sent = PLAIN[number]
    assert to_json_value(value) == sent
    event = agent.RunContentEvent(content={"it": [value]})
    assert json.loads(codec.to_json(event))["content"] == {"it": [sent]}


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4) | st.dates(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
        max_leaves=8,
    )
)
def test_json_says_what_the_dict_says(value: Any) -> None:
    """Whatever the value, surrogates and NaN included, the JSON text reads back as to_dict's value, in one line."""
    text = codec.to_json(value)
    assert json.loads(text) == codec.to_dict(value)
    assert len(text.splitlines()) <= 1


def test_cycles_and_depth_end_in_text() -> None:
    """A list that holds itself, records that hold each other and 10,000 nested lists are sent, not a crash."""
    loop: list[Any] = [1]
    loop.append(loop)
    assert to_json_value(loop) == [1, "[1, [...]]"]
    one, two = agent.RunOutput(run_id="1"), agent.RunOutput(run_id="2")
    one.metadata, two.metadata = {"other": two}, {"other": one}
    assert isinstance(one.to_dict()["metadata"]["other"]["metadata"]["other"], str)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert json.loads(dump(deep))


def test_json_is_one_compact_line_with_non_ascii_kept() -> None:
    """No spaces, é as é, and no character that a reader could take for a line's end."""
    event = agent.RunContentEvent(created_at=1, content="é\n\u2028\u2029\x85")
    text = event.to_json()
    assert '"content":"é\\n\\u2028\\u2029\\u0085"' in text
    assert len(text.splitlines()) == 1 and ": " not in text


def test_a_frame_is_name_and_json() -> None:
    """An SSE frame has the event's name and its JSON; a resumable one adds index, run id and an id line."""
    event = agent.RunContentEvent(created_at=1, content="x", run_id="child")
    frame = codec.sse_frame(event)
    assert frame == b"event: RunContent\ndata: " + event.to_json().encode() + b"\n\n"
    name, data, place, *rest = codec.sse_frame(event, 5, "root").split(b"\n")
    assert (name, place, rest) == (b"event: RunContent", b"id: 5", [b"", b""])
    sent = json.loads(data.removeprefix(b"data: "))
    assert (sent["event_index"], sent["run_id"], sent["content"]) == (5, "root", "x")
    assert codec.event_from_dict(sent).event_index == 5


def test_a_name_can_not_break_a_frame() -> None:
    """Line ends in a custom event's name don't make a second field of the frame."""
    frame = codec.sse_frame(workflow.CustomEvent(event="a\ndata: evil"))
    assert frame.startswith(b"event: a data: evil\ndata: {") and frame.count(b"\n") == 3


def test_a_custom_event_keeps_its_extras() -> None:
    """Extra keys survive the way there and back, on the agent's and on the workflow's class."""
    for custom in (agent.CustomEvent, workflow.CustomEvent):
        event = custom(run_id="r", progress={"done": 1})
        back = codec.event_from_dict(through_json(event.to_dict()))
        assert type(back) is custom and back == event


def test_an_unknown_event_becomes_a_custom_event() -> None:
    """An event of a newer version is kept, name and keys; keys that would hide a method are dropped."""
    back = codec.event_from_dict({"event": "Brand New", "agent_id": "a", "new": 1, "to_dict": 2, "_revivers": 3})
    assert type(back) is agent.CustomEvent and back.event == "Brand New"
    assert back.to_dict()["new"] == 1 and callable(back.to_dict)
    assert type(codec.event_from_dict({"event": "Brand New"})) is workflow.CustomEvent


def test_unknown_keys_of_a_known_event_are_ignored() -> None:
    """A field that a newer version added doesn't stop an older one from reading the rest."""
    back = codec.event_from_dict({"event": "RunContent", "content": "x", "brand_new": 1, "tools": None})
    assert isinstance(back, agent.RunContentEvent) and back.content == "x"


@pytest.mark.parametrize("bad", [{}, {"event": 3}, [], "RunContent", None])
def test_what_is_no_event_is_refused(bad: Any) -> None:
    """The error shows what was given instead of an event."""
    with pytest.raises(DesistError, match="name under 'event'"):
        codec.event_from_dict(bad)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"event": "ToolCallStarted", "tool": "x"}, "ToolCallStartedEvent.tool"),
        ({"event": "RunCancelled", "cancel": {"source": "weather"}}, "RunCancelledEvent.cancel"),
        ({"event": "RunCancelled", "cancel": {}}, "RunCancelledEvent.cancel"),
    ],
)
def test_a_value_of_the_wrong_shape_is_named(data: dict[str, Any], field: str) -> None:
    """The error names class and field of what can't be read."""
    with pytest.raises(DesistError, match=field):
        codec.event_from_dict(data)
