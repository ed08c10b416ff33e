"""`print_response` of agents and workflows: run and show it in the terminal, live.

Imported when it is first called, because rich is. How it looks is the business of `desist.console`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console

from desist.console import RunView, show, show_async
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.outputs.input import input_text

__all__ = ["aprint_response", "print_response"]


class _Component(Protocol):
    """An agent or a workflow."""

    @property
    def run(self) -> Callable[..., Any]: ...
    @property
    def arun(self) -> Callable[..., Any]: ...


def print_response(component: _Component, input: Any, **options: Any) -> None:
    """Run it and show it: steps, text, tool calls, the end. A failed run is shown, not raised.

    Raises:
        ConfigurationError: a value can't be used; nothing has run.
        KeyboardInterrupt: Ctrl-C. The run is cancelled, and its end is shown first.
    """
    show(*_begun(component.run, input, **options))


async def aprint_response(component: _Component, input: Any, **options: Any) -> None:
    """Do the same on the caller's event loop. A cancelled task cancels the run and shows its end."""
    await show_async(*_begun(component.arun, input, **options))


def _begun(
    start: Callable[..., Any],
    input: Any,
    *,
    stream: bool = True,
    markdown: bool = False,
    console: Console | None = None,
    show_time: bool = True,
    show_step_details: bool = True,
    **run_options: Any,
) -> tuple[Any, RunView]:
    """Begin a run; return its reader, and the view for it.

    Parameters:
        start: `run` or `arun`.
        input: what it is given.
        stream: show text as it comes; False: when it, or its step, is complete.
        markdown: render text as Markdown, if the console is a terminal.
        console: where to; None for the standard output.
        show_time: say how long things took.
        show_step_details: show steps and tool calls too, not only text and the end.
        run_options: those of `start`.
    """
    if "stream_events" in run_options:
        raise UnsupportedError(
            "print_response() has no parameter stream_events=: it reads all events; "
            "show_step_details= says what is shown"
        )
    if console is not None and not isinstance(console, Console):
        raise ConfigurationError(f"console= must be a rich.console.Console, not {console!r:.80}")
    reader = start(input, stream=True, stream_events=True, **run_options)
    view = RunView(
        console or Console(),
        reader.run_id,
        input=input_text(input) if input is not None else "",
        stream=stream,
        markdown=markdown,
        show_time=show_time,
        show_step_details=show_step_details,
    )
    return reader, view
