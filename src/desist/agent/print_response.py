"""`print_response` of agents and workflows: run and show it in the terminal, live.

Imported on the first call, because rich is slow to import. `desist.console` renders the run.
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
    """Run a component and render the run: steps, text, tool calls, the end. A failed run is rendered, not raised.

    Raises:
        ConfigurationError: a value can't be used; nothing has run.
        KeyboardInterrupt: Ctrl-C. Raised after the run was cancelled and its end rendered.
    """
    show(*_begun(component.run, input, **options))


async def aprint_response(component: _Component, input: Any, **options: Any) -> None:
    """Do the same on the caller's event loop. A cancelled task cancels the run and renders its end."""
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
        input: the input of the run.
        stream: render text as it arrives; False: when the text of a step is complete.
        markdown: render text as Markdown, if the console is a terminal.
        console: the console to write to; None for the standard output.
        show_time: show durations.
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
