"""The gate to telemetry: whether this program traces at all. In one that doesn't, this module is all it costs.

A program that has set a tracer provider of OpenTelemetry has imported it, so nobody else needs to: a run looks once
into `sys.modules`, a step at an attribute that is None. What is traced is said in `desist.run.telemetry.spans`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from desist.run.execution.run import Run
    from desist.run.records.metrics import Usage
    from desist.run.telemetry.spans import CallSpan, Spans

__all__ = ["model_span", "tool_span", "trace_run"]

log = logging.getLogger("desist.run.telemetry.gate")
#: The provider that was seen last, and the tracer that it gave.
_last: tuple[Any, Tracer] | None = None


def trace_run(run: Run) -> Spans | None:
    """Begin the span of a run; None if the program doesn't trace."""
    tracer = _tracer()
    if tracer is None:
        return None
    from desist.run.telemetry.spans import spans_of

    return spans_of(run, tracer)


def model_span(run: Run, model: str, provider: str | None) -> CallSpan | _NoSpan:
    """Return a context that is the span of one model call."""
    if run.spans is None:
        return _UNTRACED
    from desist.run.telemetry.spans import model_part

    return model_part(run.spans, model, provider)


def tool_span(run: Run, name: str, call_id: str) -> CallSpan | _NoSpan:
    """Return a context that is the span of one tool call."""
    if run.spans is None:
        return _UNTRACED
    from desist.run.telemetry.spans import tool_part

    return tool_part(run.spans, name, call_id)


def _tracer() -> Tracer | None:
    """Return the program's tracer, or None if it has set up none."""
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
        log.warning("no tracer to be had: this run isn't traced", exc_info=True)
        return None
    _last = provider, tracer
    return tracer


class _NoSpan:
    """What a part is where nobody traces."""

    __slots__ = ()

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def used(self, usage: Usage, first: float | None) -> None:
        """Nobody wants to know."""


_UNTRACED = _NoSpan()
