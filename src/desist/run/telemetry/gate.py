"""Decides whether this program traces. In a program that does not, this module is all that tracing costs.

A program that has set a tracer provider has imported OpenTelemetry, so desist need not import it: a run checks
`sys.modules` once, a step checks whether an attribute is None. The spans themselves are in
`desist.run.telemetry.spans`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from desist.run.records.metrics import Usage
    from desist.run.telemetry.span_info import SpanInfo
    from desist.run.telemetry.spans import CallSpan, Spans

__all__ = ["model_span", "tool_span", "trace_run"]

log = logging.getLogger("desist.run.telemetry.gate")
#: The provider of the last call, and its tracer. Replaced in one assignment: any thread may call `_tracer`.
_last: tuple[Any, Tracer] | None = None


def trace_run(info: SpanInfo) -> Spans | None:
    """Begin the span of a run. Return None if the program does not trace."""
    tracer = _tracer()
    if tracer is None:
        return None
    from desist.run.telemetry.spans import open_spans

    return open_spans(info, tracer)


def model_span(spans: Spans | None, model: str, provider: str | None) -> CallSpan | _NoSpan:
    """Return a context manager: the span of one model call."""
    if spans is None:
        return _UNTRACED
    from desist.run.telemetry.spans import model_call_span

    return model_call_span(spans, model, provider)


def tool_span(spans: Spans | None, name: str, call_id: str) -> CallSpan | _NoSpan:
    """Return a context manager: the span of one tool call."""
    if spans is None:
        return _UNTRACED
    from desist.run.telemetry.spans import tool_call_span

    return tool_call_span(spans, name, call_id)


def _tracer() -> Tracer | None:
    """Return the program's tracer, or None if the program has set no tracer provider."""
    global _last
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        provider = trace.get_tracer_provider()
        if _last is not None and _last[0] is provider:
            return _last[1]
        if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            return None
        tracer: Tracer = provider.get_tracer("desist")
    except Exception:  # another thread is still importing it, or the provider fails
        log.warning("the tracer provider failed: this run is not traced", exc_info=True)
        return None
    _last = provider, tracer
    return tracer


class _NoSpan:
    """The span of a program that does not trace: does nothing."""

    __slots__ = ()

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def used(self, usage: Usage, first: float | None) -> None:
        """Do nothing."""


_UNTRACED = _NoSpan()
