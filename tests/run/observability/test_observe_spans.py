"""OpenTelemetry: spans of runs, steps, model calls and tools, what a cancel leaves in them, and no cost unused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from desist import Agent, Step, Steps, Workflow, quarantine
from desist.exceptions import ModelError
from desist.models.response import Usage
from desist.run.execution.run import current_run
from desist.run.telemetry import spans as telemetry
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

PATIENCE = 60.0


class Trace:
    """What was exported, once it was."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def parents(self) -> dict[str, str | None]:
        """Return the name of each span's parent."""
        spans = self.exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans}
        return {span.name: names.get(span.parent.span_id) if span.parent else None for span in spans}

    def names(self) -> list[str]:
        """Return the names in the order in which the spans ended."""
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Set a tracer provider, for this test only: the API lets a program do it once."""
    found = Trace()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", found.provider)
    return found


def clock(city: str) -> str:
    """Say the time."""
    return f"noon in {city}"


def test_names_are_those_of_the_conventions() -> None:
    """Every gen_ai name that is used is one of the GenAI semantic conventions; the rest are ours."""
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    known |= {value.value for value in gen_ai_attributes.GenAiOperationNameValues}
    used = {value for name, value in vars(telemetry).items() if name.isupper() and isinstance(value, str)}
    foreign = {name for name in used - known if not name.startswith(("desist.", "cancel.", "work."))}
    assert foreign == {error_attributes.ERROR_TYPE}


def test_the_spans_of_a_run_form_its_tree(traced: Trace) -> None:
    """Workflow, container, step, agent, model calls, tool: each is below the other, in one trace."""
    agent = Agent(ScriptedModel([Call("clock", {"city": "Rome"}), "noon"]), name="Teller", tools=[clock])
    Workflow("Day", steps=[Steps("morning", steps=[Step("ask", agent=agent)])]).run("go", session_id="s1")
    assert traced.parents() == {
        "invoke_workflow Day": None,
        "steps morning": "invoke_workflow Day",
        "step ask": "steps morning",
        "invoke_agent Teller": "step ask",
        "chat scripted": "invoke_agent Teller",
        "execute_tool clock": "invoke_agent Teller",
    }
    assert traced.names() == [
        "chat scripted",
        "execute_tool clock",
        "chat scripted",
        "invoke_agent Teller",
        "step ask",
        "steps morning",
        "invoke_workflow Day",
    ]
    assert len({span.context.trace_id for span in traced.exporter.get_finished_spans()}) == 1


def test_what_spans_say(traced: Trace) -> None:
    """Names, ids and token counts are there, by the conventions; no text, argument or result is."""
    agent = Agent(ScriptedModel([Call("clock", {"city": "Rome"}), "noon sharp"]), name="Teller", tools=[clock])
    output = Workflow("Day", steps=[Step("ask", agent=agent)]).run("a secret", session_id="s1")
    spans = traced.spans()
    top, run, chat = (spans[name] for name in ("invoke_workflow Day", "invoke_agent Teller", "chat scripted"))
    tool, step = spans["execute_tool clock"], spans["step ask"]
    assert dict(top.attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "Day",
        "gen_ai.conversation.id": "s1",
        "desist.run.id": output.run_id,
        "desist.run.root_id": output.run_id,
        "desist.outcome": "completed",
    }
    said = dict(run.attributes or {})
    assert said["gen_ai.operation.name"] == "invoke_agent" and said["gen_ai.agent.name"] == "Teller"
    assert said["gen_ai.request.model"] == "scripted" and said["gen_ai.provider.name"] == "desist.testing"
    assert said["desist.run.root_id"] == output.run_id != said["desist.run.id"]
    used = output.metrics.steps["ask"].metrics if output.metrics else Usage()
    assert said["gen_ai.usage.output_tokens"] == used.output_tokens > 0
    assert chat.kind is SpanKind.CLIENT and (chat.attributes or {})["gen_ai.usage.output_tokens"] == 2
    assert (chat.attributes or {})["gen_ai.response.time_to_first_chunk"] >= 0  # type: ignore[operator]
    assert (tool.attributes or {})["gen_ai.tool.name"] == "clock" and (tool.attributes or {})["gen_ai.tool.call.id"]
    assert (step.attributes or {})["desist.step.name"] == "ask" and (step.attributes or {})["desist.step.index"] == (0,)
    everything = "".join(span.to_json() for span in traced.exporter.get_finished_spans())
    assert not any(text in everything for text in ("secret", "Rome", "sharp"))
    assert all(span.status.status_code is StatusCode.UNSET for span in traced.exporter.get_finished_spans())


def test_users_spans_nest_across_threads_and_loops(traced: Trace) -> None:
    """The caller's span is above the run's; a span that a sync or async tool makes is below the tool's."""
    own = trace.get_tracer("mine")

    def dig() -> str:
        """Dig, in a worker thread."""
        with own.start_as_current_span("digging"):
            return "dug"

    async def fly() -> str:
        """Fly, on a loop."""
        with own.start_as_current_span("flying"):
            await asyncio.sleep(0)
            return "flown"

    model = ScriptedModel([ToolCalls(Call("dig"), Call("fly")), "done"])
    with own.start_as_current_span("request"):
        Agent(model, name="A", tools=[dig, fly]).run("go")
        assert trace.get_current_span().name == "request"  # type: ignore[attr-defined]
    parents = traced.parents()
    assert parents["invoke_agent A"] == "request"
    assert parents["digging"] == "execute_tool dig" and parents["flying"] == "execute_tool fly"


def test_an_agent_in_a_tool_is_below_the_tool(traced: Trace) -> None:
    """A run that a tool starts in its thread has the tool's span as its parent."""
    inner = Agent(ScriptedModel("fine"), name="Inner")

    def ask() -> str:
        """Ask the other one."""
        return str(inner.run("go").content)

    Agent(ScriptedModel([Call("ask"), "done"]), name="Outer", tools=[ask]).run("go")
    assert traced.parents()["invoke_agent Inner"] == "execute_tool ask"


@pytest.mark.parametrize("where", ["model", "tool"])
def test_a_cancel_is_recorded_and_is_no_error(traced: Trace, where: str) -> None:
    """Every span of a cancelled tree ends, UNSET, cancelled by whom; runs carry the event of the request."""
    gate = Gate()

    def wait() -> str:
        """Wait."""
        gate.wait_blocking()
        return "done"

    script: list[Any] = [["a ", gate]] if where == "model" else [Call("wait")]
    agent = Agent(ScriptedModel(script), name="A", tools=[wait])
    workflow = Workflow("W", steps=[Step("one", agent=agent)])
    events = workflow.run("go", stream=True)
    gate.wait_reached()
    receipt = workflow.cancel(events.run_id, reason="enough", by="ann")
    assert receipt.wait(PATIENCE)
    spans = traced.spans()
    hit = {"invoke_workflow W", "step one", "invoke_agent A"}
    hit.add("chat scripted" if where == "model" else "execute_tool wait")
    assert hit <= set(spans)
    for name, span in spans.items():
        said = dict(span.attributes or {})
        assert span.status.status_code is StatusCode.UNSET and span.end_time is not None
        assert said["desist.outcome"] == ("cancelled" if name in hit else "completed")
        if name in hit:
            assert said["desist.cancel.source"] == ("user" if name in ("invoke_workflow W", "step one") else "parent")
            assert (said["desist.cancel.reason"], said["desist.cancel.by"]) == ("enough", "ann")
    (request,) = spans["invoke_workflow W"].events
    assert request.name == "cancel.requested"
    assert dict(request.attributes or {})["desist.cancel.source"] == "user"
    assert receipt.requested_at is not None and abs(request.timestamp / 1e9 - receipt.requested_at) < 1e-3
    assert [event.name for event in spans["invoke_agent A"].events] == ["cancel.requested"]


def test_abandoned_work_is_an_event_of_its_run(traced: Trace) -> None:
    """What could not be stopped is named in the run's span."""
    entered, release = threading.Event(), threading.Event()

    def deaf() -> str:
        """Hear nothing."""
        entered.set()
        while not release.is_set():
            try:
                release.wait(PATIENCE)
            except BaseException:
                continue
        return "late"

    agent = Agent(ScriptedModel([Call("deaf")]), name="A", tools=[deaf], grace=0.01)
    events = agent.run("go", stream=True)
    assert entered.wait(PATIENCE)
    assert agent.cancel(events.run_id).wait(PATIENCE)
    release.set()
    told = {event.name: dict(event.attributes or {}) for event in traced.spans()["invoke_agent A"].events}
    assert told["work.abandoned"] == {"desist.work.name": "deaf", "desist.work.kind": "thread"}


def test_spans_of_a_task_that_never_returns_end_with_the_run(traced: Trace) -> None:
    """A model call that swallows its cancellation: its span ends with the run, marked abandoned, and only once."""

    async def main() -> None:
        reached, end = Gate(), Gate()

        async def stubborn(_: Any) -> str:
            while not end.is_open:
                try:
                    await (end if reached.reached else reached).wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        agent = Agent(ScriptedModel([stubborn]), name="A", grace=0.01)
        events = agent.arun("go", stream=True)
        await asyncio.to_thread(reached.wait_reached)
        await agent.cancel(events.run_id)
        said = dict(traced.spans()["chat scripted"].attributes or {})
        assert said["desist.abandoned"] is True and said["desist.outcome"] == "cancelled"
        end.open()
        while any(item.run_id == events.run_id for item in quarantine()):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert traced.names() == ["chat scripted", "invoke_agent A"]


def test_failures_are_errors(traced: Trace) -> None:
    """A tool, a model and a step that fail have status ERROR and an error.type; what goes on after them hasn't."""

    def burn() -> str:
        """Burn."""
        raise ValueError("too hot")

    agent = Agent(ScriptedModel([Call("burn"), ModelError("no more")]), name="A", tools=[burn])
    Workflow("W", steps=[Step("one", agent=agent, max_retries=0), Step("two", executor=lambda _: "fine")]).run("go")
    spans = traced.spans()
    kinds = {name: (span.attributes or {}).get("error.type") for name, span in spans.items()}
    assert kinds == {
        "execute_tool burn": "ValueError",
        "chat scripted": "ModelError",
        "invoke_agent A": "ModelError",
        "step one": "_OTHER",
        "function two": None,
        "invoke_workflow W": None,
    }
    for name, span in spans.items():
        expected = StatusCode.ERROR if kinds[name] else StatusCode.UNSET
        assert span.status.status_code is expected, name


def test_a_step_that_fails_its_run_has_its_span(traced: Trace) -> None:
    """on_error="fail": step and run are errors, and the step's span ends before the run's."""

    def burn(_: Any) -> str:
        raise ValueError("too hot")

    Workflow("W", steps=[Step("one", executor=burn, max_retries=0, on_error="fail")]).run("go")
    assert traced.names() == ["function one", "invoke_workflow W"]
    assert all(span.status.status_code is StatusCode.ERROR for span in traced.exporter.get_finished_spans())


class _Broken(SpanProcessor):
    """Fails at everything."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("the collector is gone")

    def on_end(self, span: Any) -> None:
        raise OSError("the collector is gone")


@pytest.mark.loud
def test_a_broken_processor_harms_no_run(traced: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """A span processor that raises is warned of; the run completes as if nobody traced."""
    traced.provider.add_span_processor(_Broken())
    output = Agent(ScriptedModel([Call("clock", {"city": "Rome"}), "noon"]), tools=[clock]).run("go")
    assert output.content == "noon"
    assert {record.levelname for record in caplog.records if record.name == "desist.run.telemetry"} == {"WARNING"}


def test_without_a_provider_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API alone, without a provider set: no span is made."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    seen: list[Any] = []

    def look() -> str:
        """Look."""
        run = current_run()
        seen.extend([run and run.spans, trace.get_current_span()])
        return "seen"

    assert Agent(ScriptedModel([Call("look"), "done"]), tools=[look]).run("go").content == "done"
    assert seen == [None, trace.INVALID_SPAN]


def test_a_program_that_does_not_trace_never_imports_opentelemetry() -> None:
    """Imports, a run and a cancel leave opentelemetry unimported, though it is installed."""
    program = """
import sys
from desist import Agent, runs, cancel_all, quarantine
from desist.testing import ScriptedModel
Agent(ScriptedModel("fine")).run("go")
print(runs(), cancel_all(), quarantine())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=True)
    assert ran.stdout == "[] [] []\n"
