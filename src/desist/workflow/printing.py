"""`print_response` of a workflow: run it and show it in the terminal, live, with its steps.

Imported when it is first called, because rich is. How it looks is the business of `desist.run.display`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.agent.printing import refuse_display_options, view_of
from desist.run.display import show, show_async

if TYPE_CHECKING:
    from rich.console import Console

    from desist.workflow.workflow import Workflow

__all__ = ["aprint_response", "print_response"]


def print_response(
    workflow: Workflow,
    input: Any = None,
    *,
    stream: bool = True,
    markdown: bool = True,
    console: Console | None = None,
    show_time: bool = True,
    show_step_details: bool = True,
    **run_options: Any,
) -> None:
    """Run a workflow and show it: its steps, their text and tool calls, the end. A failed run is shown, not raised.

    Parameters:
        workflow: which one.
        input: what it is given.
        stream: show text as it comes; False: when a step has ended.
        markdown: render text as Markdown, if the console is a terminal.
        console: where to; None for the standard output.
        show_time: say how long things took.
        show_step_details: show steps and tool calls too, not only text and the end.
        run_options: those of `Workflow.run`.

    Raises:
        ConfigurationError: a value can't be used; nothing has run.
        KeyboardInterrupt: Ctrl-C. The run is cancelled, and its end is shown first.
    """
    refuse_display_options(console, run_options)
    reader = workflow.run(input, stream=True, stream_events=True, **run_options)
    show(reader, view_of(reader.run_id, input, stream, markdown, console, show_time, show_step_details))


async def aprint_response(
    workflow: Workflow,
    input: Any = None,
    *,
    stream: bool = True,
    markdown: bool = True,
    console: Console | None = None,
    show_time: bool = True,
    show_step_details: bool = True,
    **run_options: Any,
) -> None:
    """Do the same on the caller's event loop. A cancelled task cancels the run and shows its end."""
    refuse_display_options(console, run_options)
    reader = workflow.arun(input, stream=True, stream_events=True, **run_options)
    await show_async(reader, view_of(reader.run_id, input, stream, markdown, console, show_time, show_step_details))
