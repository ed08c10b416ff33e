"""`print_response` of an agent: run it and show it in the terminal, live.

Imported when it is first called, because rich is. How it looks is the business of `desist.run.display`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.display import View, show, show_async
from desist.run.input import input_text

if TYPE_CHECKING:
    from desist.agent.agent import Agent

__all__ = ["aprint_response", "print_response", "refuse_display_options", "view_of"]


def print_response(
    agent: Agent,
    input: Any,
    *,
    stream: bool = True,
    markdown: bool = False,
    console: Console | None = None,
    show_time: bool = True,
    show_step_details: bool = True,
    **run_options: Any,
) -> None:
    """Run an agent and show it: text, tool calls, the end. A failed run is shown, not raised.

    Parameters:
        agent: which one.
        input: what it is asked.
        stream: show text as it comes; False: when it is complete.
        markdown: render the text as Markdown, if the console is a terminal.
        console: where to; None for the standard output.
        show_time: say how long things took.
        show_step_details: show tool calls too.
        run_options: those of `Agent.run`.

    Raises:
        ConfigurationError: a value can't be used; nothing has run.
        KeyboardInterrupt: Ctrl-C. The run is cancelled, and its end is shown first.
    """
    refuse_display_options(console, run_options)
    reader = agent.run(input, stream=True, stream_events=True, **run_options)
    view = view_of(reader.run_id, input, stream, markdown, console, show_time, show_step_details)
    show(reader, view)


async def aprint_response(
    agent: Agent,
    input: Any,
    *,
    stream: bool = True,
    markdown: bool = False,
    console: Console | None = None,
    show_time: bool = True,
    show_step_details: bool = True,
    **run_options: Any,
) -> None:
    """Do the same on the caller's event loop. A cancelled task cancels the run and shows its end."""
    refuse_display_options(console, run_options)
    reader = agent.arun(input, stream=True, stream_events=True, **run_options)
    await show_async(reader, view_of(reader.run_id, input, stream, markdown, console, show_time, show_step_details))


def refuse_display_options(console: Any, run_options: dict[str, Any]) -> None:
    """Refuse what would have no effect, before anything runs."""
    if "stream_events" in run_options:
        raise UnsupportedError(
            "print_response() has no parameter stream_events=: it reads all events; "
            "show_step_details= says what is shown"
        )
    if console is not None and not isinstance(console, Console):
        raise ConfigurationError(f"console= must be a rich.console.Console, not {console!r:.80}")


def view_of(
    run_id: str,
    asked: Any,
    stream: bool,
    markdown: bool,
    console: Console | None,
    show_time: bool,
    show_step_details: bool,
) -> View:
    """Return the view that `print_response` uses."""
    return View(
        console or Console(),
        run_id,
        asked=input_text(asked) if asked is not None else "",
        stream=stream,
        markdown=markdown,
        show_time=show_time,
        show_step_details=show_step_details,
    )
