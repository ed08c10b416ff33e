"""`RunView` renders the events of one run on a screen.

It serves agents and workflows alike. All state comes from the events: a view never reads the run itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from desist.console.end_panel import ResultCounts, cancel_rows, end_panel
from desist.console.format import clean, count, one_line, seconds, signs_for
from desist.console.screen import Screen, screen_for
from desist.console.speakers import SpeakerQueue
from desist.console.step_list import StepList
from desist.run.events.base import content_text
from desist.run.events.workflow_base import STEP_COMPLETED, STEP_STARTED

__all__ = ["RunView"]


class RunView:
    """Render a run. Use the view as a context manager around the reading loop, and pass every event to `take`.

    Parameters:
        console: the console to write to.
        run_id: the run whose terminal event ends the view.
        input: the input of the run, shown at the top; "" for none.
        stream: show text as it arrives; otherwise when it is complete.
        markdown: render text as Markdown, if the console is a terminal.
        show_time: show durations.
        show_step_details: show steps and tool calls, beside the text and the result.
        show_end: show the result; the command line renders its own.
        hint: text of the status line while the run is live, or a function that returns the text; it is called by
            the thread that draws.
        screen: makes the screen from the function that returns the status line; None chooses one by the console.
    """

    def __init__(
        self,
        console: Console,
        run_id: str,
        *,
        input: str = "",
        stream: bool = True,
        markdown: bool = True,
        show_time: bool = True,
        show_step_details: bool = True,
        show_end: bool = True,
        hint: str | Callable[[], str] = "Ctrl-C cancels it",
        screen: Callable[[Callable[[], RenderableType | None]], Screen] | None = None,
    ) -> None:
        self._console = console
        self._run_id = run_id
        self._input = input
        self._show_time = show_time
        self._details = show_step_details
        self._show_end = show_end
        self._hint = hint
        self._signs = signs_for(console)
        self._steps = StepList()
        self._began = time.monotonic()
        self.ended = False  #: whether the run's terminal event was seen
        self.pieces = 0  #: of streamed text
        self._screen = screen(self.status) if screen else screen_for(console, markdown=markdown, status=self.status)
        self._speakers = SpeakerQueue(self._screen, held=not stream)

    def __enter__(self) -> RunView:
        self._began = time.monotonic()
        try:
            self._screen.start()
            if self._input:
                self._screen.line(Text(f"{self._signs.asked} {self._safe(self._input, 400)}", style="dim"))
        except BaseException:  # a signal: `__exit__` isn't called, but the terminal must be restored
            self._screen.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.stop()

    def take(self, event: Any) -> None:
        """Show one event."""
        if event.run_id == self._run_id and event.is_terminal:
            self._end(event)
            return
        handler = _HANDLERS.get(event.event)
        if handler is not None:
            handler(self, event)

    # -- while it runs

    def status(self) -> RenderableType | None:
        """Return the status line. Called by the thread that refreshes."""
        if self.ended:
            return None
        now = time.monotonic()
        frames = self._signs.frames
        running = self._steps.running() if self._details else []
        parts = [", ".join(running) or "running"]
        if self._show_time:
            parts.append(seconds(now - self._began))
        hint = self._hint() if callable(self._hint) else self._hint
        if hint:
            parts.append(hint)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(frames[int(now * 12) % len(frames)] + " ", style="cyan")
        line.append(f" {self._signs.dot} ".join(parts), style="dim")
        return line

    def _key(self, event: Any) -> str:
        return getattr(event, "step_id", None) or event.run_id or ""

    def _safe(self, text: Any, limit: int = 200) -> str:
        return clean(one_line(text, limit), self._console.encoding)

    def _title(self, event: Any) -> None:
        if event.run_id != self._run_id:
            outer = getattr(event, "parent_step_id", None)
            if outer:
                self._speakers.end(outer)  # a nested workflow: its steps emit text, the step that runs it does not
            return
        name = getattr(event, "workflow_name", None) or getattr(event, "agent_name", None)
        if name and self._details:
            self._screen.line(Text(self._safe(name), style="bold"))

    def _content(self, event: Any) -> None:
        if event.content is not None:
            self.pieces += 1
            self._speakers.add_text(self._key(event), content_text(event.content))

    def _agent_ended(self, event: Any) -> None:
        key = self._key(event)
        if event.is_error:
            self._speakers.line(key, self._mark("failed", f"{event.agent_name or 'agent'}: {event.content}"))
        elif not event.is_cancelled and not self._speakers.has_spoken(key) and event.content is not None:
            self._speakers.add_text(key, content_text(event.content))

    def _step_output(self, event: Any) -> None:
        """Show a piece of a generator's text; or the whole output of a function, unless its pieces were shown."""
        if event.is_content or not self._speakers.has_spoken(self._key(event)):
            self._content(event)

    # -- steps

    def _step_began(self, event: Any) -> None:
        step = self._steps.begin(event)
        if not self._details:
            return
        name = self._safe(step.name)
        indent = "  " * step.depth
        if step.depth or not self._console.is_terminal:
            heading: RenderableType = Text(f"{indent}{self._signs.asked} {name}", style="cyan")
        else:
            heading = Group(Text(""), Rule(Text(name, style="bold cyan"), align="left", style="cyan"))
        self._speakers.line(step.key, heading)
        if event.event != "StepStarted":
            self._speakers.end(step.key)  # a container emits no text while its steps run; its end is a new speaker

    def _step_ended(self, event: Any) -> None:
        self._close_step(event, "done", "")

    def _step_failed(self, event: Any) -> None:
        self._close_step(event, "failed", event.error or "")

    def _step_cancelled(self, event: Any) -> None:
        text = content_text(event.content)
        self._close_step(event, "cancelled", f"{count(len(text), 'character')} kept" if text else "")

    def _close_step(self, event: Any, state: str, more: str) -> None:
        step = self._steps.end(event, state)
        if step is None:
            return
        if self._details:
            parts = [f"{'  ' * step.depth}{step.name}"]
            if state != "done":
                parts.append(state)
            if self._show_time:
                parts.append(seconds(step.seconds))
            parts += [more] if more else []
            self._speakers.line(step.key, self._mark(state, f" {self._signs.dot} ".join(parts)))
        self._speakers.end(step.key)

    def _mark(self, state: str, text: str) -> Text:
        sign, style = {
            "done": (self._signs.done, "green"),
            "cancelled": (self._signs.stopped, "yellow"),
            "failed": (self._signs.failed, "red"),
        }[state]
        indent = len(text) - len(text.lstrip(" "))
        line = Text(" " * indent)
        line.append(sign, style=f"bold {style}")
        line.append(" " + self._safe(text, 500), style=style)
        return line

    # -- tools

    def _tool(self, event: Any, what: str, style: str) -> None:
        if not self._details or event.tool is None:
            return
        call = event.tool
        arguments = ", ".join(f"{name}={one_line(repr(value), 40)}" for name, value in (call.tool_args or {}).items())
        text = f"{self._signs.tool} {call.tool_name}({arguments})"
        if self._show_time and call.duration is not None:
            what = f"{what} {self._signs.dot} {seconds(call.duration)}"
        self._speakers.line(self._key(event), Text(f"{self._safe(text, 160)} {what}", style=style))

    def _tool_done(self, event: Any) -> None:
        self._tool(event, self._signs.done, "magenta")

    def _tool_failed(self, event: Any) -> None:
        self._tool(event, f"{self._signs.failed} {self._safe(event.error or 'failed')}", "red")

    def _tool_cancelled(self, event: Any) -> None:
        abandoned = event.tool is not None and event.tool.abandoned
        self._tool(event, f"{self._signs.stopped} {'abandoned' if abandoned else 'cancelled'}", "yellow")

    def _paused(self, event: Any) -> None:
        self._speakers.line(self._key(event), Text(f"{self._signs.waits} waits for a human", style="yellow"))

    # -- the end

    def _end(self, event: Any) -> None:
        self.ended = True
        if not (event.is_error or event.is_cancelled) and getattr(event, "agent_name", None) is not None:
            self._agent_ended(event)
        self._speakers.end_all()
        self._screen.stop()
        if self._show_end:
            if self._console.is_terminal:
                self._screen.line(Text(""))
            self._screen.line(self._end_line(event))

    def _end_line(self, event: Any) -> RenderableType:
        took = seconds(time.monotonic() - self._began)
        if event.is_cancelled:
            rows = cancel_rows(event.cancel, ResultCounts(event.content, getattr(event, "step_results", None)))
            title = f"cancelled after {took}" if self._show_time else "cancelled"
            return end_panel(title, rows, "yellow", self._console.encoding)
        after = f" after {took}" if self._show_time else ""
        if event.is_error:
            message = getattr(event, "error", None) or event.content or "no reason was given"
            return self._mark("failed", f"failed{after}: {message}")
        parts = [f"completed in {took}" if self._show_time else "completed"]
        finished = self._steps.finished
        if finished:
            parts.append(count(finished, "step"))
        return self._mark("done", f" {self._signs.dot} ".join(parts))


_HANDLERS: dict[str, Callable[[RunView, Any], None]] = {
    "WorkflowStarted": RunView._title,
    "RunStarted": RunView._title,
    "RunContent": RunView._content,
    "RunIntermediateContent": RunView._content,
    "RunCompleted": RunView._agent_ended,
    "RunCancelled": RunView._agent_ended,
    "RunError": RunView._agent_ended,
    "RunPaused": RunView._paused,
    "StepPaused": RunView._paused,
    "StepOutput": RunView._step_output,
    "StepError": RunView._step_failed,
    "StepCancelled": RunView._step_cancelled,
    "ToolCallCompleted": RunView._tool_done,
    "ToolCallError": RunView._tool_failed,
    "ToolCallCancelled": RunView._tool_cancelled,
    **dict.fromkeys(STEP_STARTED, RunView._step_began),
    **dict.fromkeys(STEP_COMPLETED, RunView._step_ended),
}
