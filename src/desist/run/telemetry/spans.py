"""OpenTelemetry spans of runs, steps, model calls and tool calls. No other module knows the GenAI conventions' names.

Imported by `desist.run.telemetry.gate`, only when the program traces.

A cancelled span is not an error: its status stays unset; `desist.outcome` is "cancelled", and the `desist.cancel.*`
attributes say why. Texts, arguments and results are never recorded. A span processor that fails is logged and does not
harm the run.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

from desist.cancel.receipt import CancelRecord
from desist.cancel.status import RunStatus
from desist.exceptions import AgentRunException, RunCancelled
from desist.run.records.metrics import Usage
from desist.run.storage.values import Output

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from desist.run.telemetry.span_info import SpanInfo

__all__ = ["CallSpan", "Spans", "model_call_span", "open_spans", "tool_call_span"]

log = logging.getLogger("desist.run.telemetry")
P = ParamSpec("P")

# -- the GenAI semantic conventions
OPERATION = "gen_ai.operation.name"
INVOKE_WORKFLOW, INVOKE_AGENT, CHAT, EXECUTE_TOOL = "invoke_workflow", "invoke_agent", "chat", "execute_tool"
WORKFLOW_NAME = "gen_ai.workflow.name"
AGENT_ID, AGENT_NAME = "gen_ai.agent.id", "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
PROVIDER, MODEL = "gen_ai.provider.name", "gen_ai.request.model"
TOOL_NAME, TOOL_TYPE, TOOL_CALL = "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.tool.call.id"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
CACHE_READ, CACHE_WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
ERROR_TYPE = "error.type"

# -- our own
RUN_ID, ROOT_ID = "desist.run.id", "desist.run.root_id"
STEP_NAME, STEP_ID = "desist.step.name", "desist.step.id"
STEP_INDEX, STEP_TYPE = "desist.step.index", "desist.step.type"
OUTCOME, ABANDONED = "desist.outcome", "desist.abandoned"
SOURCE, REASON, BY = "desist.cancel.source", "desist.cancel.reason", "desist.cancel.by"
UPSTREAM_CLOSED = "desist.cancel.upstream_closed"
CANCEL_REQUESTED, WORK_ABANDONED = "cancel.requested", "work.abandoned"
WORK_NAME, WORK_KIND = "desist.work.name", "desist.work.kind"


def _never_raises(method: Callable[P, None]) -> Callable[P, None]:
    """Return a method that logs an exception instead of raising it: tracing must not fail a run."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            log.warning("tracing failed in %s", method.__name__, exc_info=True)

    return call


def open_spans(info: SpanInfo, tracer: Tracer) -> Spans | None:
    """Begin the span of a run as a child of the caller's current span. Return None if that fails."""
    try:
        return Spans(tracer, info)
    except Exception:  # raised by a sampler or a span processor
        run_id = info.scope.run_id
        log.warning("tracing of run %s failed", run_id, exc_info=True, extra={"run_id": run_id})
        return None


def model_call_span(spans: Spans, model: str, provider: str | None) -> CallSpan:
    """Return a context manager: the span of one model call."""
    return CallSpan(spans, f"{CHAT} {model}", {OPERATION: CHAT, MODEL: model, **_provider(provider)}, client=True)


def tool_call_span(spans: Spans, name: str, call_id: str) -> CallSpan:
    """Return a context manager: the span of one tool call."""
    attributes = {OPERATION: EXECUTE_TOOL, TOOL_NAME: name, TOOL_TYPE: "function", TOOL_CALL: call_id}
    return CallSpan(spans, f"{EXECUTE_TOOL} {name}", attributes)


class Spans:
    """The spans of one run.

    A span is ended by the caller that removes it from `open`: the code that opened it, or `end`. `dict.pop` decides
    which of the two, so each span is ended once.
    """

    def __init__(self, tracer: Tracer, info: SpanInfo) -> None:
        from opentelemetry.trace import set_span_in_context

        self.tracer, self.scope = tracer, info.scope
        name, attributes = _name_and_attributes(info)
        self.span: Span = tracer.start_span(name, attributes=attributes)
        self._context = set_span_in_context(self.span)
        self.open: dict[object, OpenSpan] = {}

    @_never_raises
    def enter(self) -> None:
        """Make the run's span the current span of this context."""
        from opentelemetry.context import attach

        attach(self._context)

    @_never_raises
    def begin_step(self, key: object, kind: str, common: Mapping[str, Any]) -> None:
        """Begin the span of a step or container.

        Parameters:
            key: identifies the span to `end_step`.
            common: the fields that all events of the step carry.
        """
        index = common.get("step_index")
        attributes = {
            STEP_NAME: common.get("step_name") or "",
            STEP_ID: common.get("step_id") or "",
            STEP_INDEX: list(index) if isinstance(index, tuple) else [index or 0],
            STEP_TYPE: kind,
        }
        opened = OpenSpan(self, f"{kind.lower()} {common.get('step_name')}", attributes)
        self.open[key] = opened
        opened.enter()

    @_never_raises
    def end_step(self, key: object, *, error: str | None = None, cancelled: bool = False) -> None:
        """End the span of a step: completed, failed with the message `error`, or with only its agent cancelled."""
        opened = self.open.pop(key, None)
        if opened is not None:
            opened.leave()
            outcome = "error" if error is not None else "cancelled" if cancelled else "completed"
            opened.end(outcome, None, error)

    @_never_raises
    def end(self, status: RunStatus, record: CancelRecord | None, error: BaseException | None, output: Output) -> None:
        """End all open spans, the innermost first, then the span of the run."""
        outcome = status.value.lower()
        for key, opened in list(self.open.items())[::-1]:
            if self.open.pop(key, None) is not None:
                if isinstance(key, CallSpan):  # its task has not returned
                    opened.span.set_attribute(ABANDONED, True)
                opened.end(outcome, None, None)
        span = self.span
        span.set_attribute(ROOT_ID, self.scope.root.run_id)
        used = output.metrics
        if isinstance(used, Usage):
            span.set_attributes({INPUT_TOKENS: used.input_tokens, OUTPUT_TOKENS: used.output_tokens})
        if status is RunStatus.cancelled and record is not None:
            why = _cancel_attributes(record.source.value, record.reason, record.by)
            span.add_event(CANCEL_REQUESTED, why, timestamp=int((record.requested_at or 0.0) * 1e9))
            span.set_attributes({**why, UPSTREAM_CLOSED: record.upstream_closed})
            for item in record.abandoned:
                span.add_event(WORK_ABANDONED, {WORK_NAME: item.name, WORK_KIND: item.kind})
        _end_span(span, outcome, error, None)


class OpenSpan:
    """A span that has begun: the current span of the context in which `enter` was called."""

    def __init__(self, spans: Spans, name: str, attributes: Mapping[str, Any], *, client: bool = False) -> None:
        from opentelemetry.context import get_current
        from opentelemetry.trace import SpanKind

        self._spans = spans
        self._before: Context = get_current()
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        self.span: Span = spans.tracer.start_span(name, kind=kind, attributes=attributes)

    def enter(self) -> None:
        """Make this span the current one."""
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        attach(set_span_in_context(self.span))

    def leave(self) -> None:
        """Make the previous span the current one.

        Attaches the previous context instead of detaching a token: OpenTelemetry logs an error for a token if steps end
        out of order.
        """
        from opentelemetry.context import attach

        attach(self._before)

    def end(self, outcome: str, error: BaseException | None, message: str | None) -> None:
        """End the span. A cancelled span gets the reason of the run's cancel."""
        reason = self._spans.scope.reason
        if outcome == "cancelled" and reason is not None:
            self.span.set_attributes(_cancel_attributes(reason.source.value, reason.text, reason.by))
        _end_span(self.span, outcome, error, message)


class CallSpan:
    """The span of a model call or tool, as a context manager."""

    __slots__ = ("_arguments", "_opened", "_spans")

    def __init__(self, spans: Spans, name: str, attributes: dict[str, Any], *, client: bool = False) -> None:
        self._spans, self._arguments = spans, (name, attributes, client)
        self._opened: OpenSpan | None = None

    def __enter__(self) -> CallSpan:
        self._begin()
        return self

    @_never_raises
    def _begin(self) -> None:
        name, attributes, client = self._arguments
        opened = OpenSpan(self._spans, name, attributes, client=client)
        self._spans.open[self] = self._opened = opened
        opened.enter()

    @_never_raises
    def used(self, usage: Usage, first: float | None) -> None:
        """Record the tokens of a model call, and the seconds until its first chunk."""
        if self._opened is None:
            return
        counts = {
            INPUT_TOKENS: usage.input_tokens,
            OUTPUT_TOKENS: usage.output_tokens,
            REASONING_TOKENS: usage.reasoning_tokens,
            CACHE_READ: usage.cache_read_tokens,
            CACHE_WRITE: usage.cache_write_tokens,
        }
        self._opened.span.set_attributes({name: count for name, count in counts.items() if count})
        if first is not None:
            self._opened.span.set_attribute(FIRST_CHUNK, first)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._finish(error)

    @_never_raises
    def _finish(self, error: BaseException | None) -> None:
        opened = self._opened
        if opened is None:
            return
        if not isinstance(error, GeneratorExit):  # raised by the garbage collector, in another context
            opened.leave()
        if self._spans.open.pop(self, None) is None:
            return  # `Spans.end` has ended the span
        if isinstance(error, asyncio.CancelledError | RunCancelled | GeneratorExit):
            opened.end("cancelled", None, None)
        elif error is None or isinstance(error, AgentRunException):  # with AgentRunException a tool steers the agent
            opened.end("completed", None, None)
        else:
            opened.end("error", error, None)


def _name_and_attributes(info: SpanInfo) -> tuple[str, dict[str, Any]]:
    """Return the name and the first attributes of a run's span."""
    output, kind = info.output, info.kind
    attributes: dict[str, Any] = {RUN_ID: info.scope.run_id}
    if output.session_id is not None:
        attributes[CONVERSATION] = output.session_id
    name = getattr(output, f"{kind}_name", None) or getattr(output, f"{kind}_id", None) or ""
    if kind == "workflow":
        return f"{INVOKE_WORKFLOW} {name}", attributes | {OPERATION: INVOKE_WORKFLOW, WORKFLOW_NAME: name}
    attributes |= {OPERATION: INVOKE_AGENT, AGENT_NAME: name, AGENT_ID: getattr(output, f"{kind}_id", None) or ""}
    model: str | None = getattr(output, "model", None)
    if model is not None:
        attributes[MODEL] = model
    return f"{INVOKE_AGENT} {name}", attributes | _provider(getattr(output, "model_provider", None))


def _provider(name: str | None) -> dict[str, str]:
    return {PROVIDER: name.lower()} if name else {}


def _cancel_attributes(source: str, reason: str | None, by: str | None) -> dict[str, str]:
    """Return the attributes that say why a run was cancelled."""
    known = {SOURCE: source, REASON: reason, BY: by}
    return {name: value for name, value in known.items() if value is not None}


def _end_span(span: Span, outcome: str, error: BaseException | None, message: str | None) -> None:
    """End a span. Only the span of the call that failed gets the status ERROR, not those around it."""
    span.set_attribute(OUTCOME, outcome)
    if error is not None or message is not None:
        from opentelemetry.trace import StatusCode

        span.set_attribute(ERROR_TYPE, type(error).__qualname__ if error is not None else "_OTHER")
        span.set_status(StatusCode.ERROR, message or str(error))
    span.end()
