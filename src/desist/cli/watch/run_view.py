"""Render one run of `desist watch`: facts, steps, the end of its text; below the list or on the whole screen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from desist.cli.client import LiveInfo, RunInfo
from desist.cli.client.run_tree import Node, RunTree
from desist.cli.render.run_details import format_usage
from desist.cli.render.status import sign_of, status_text, style_of
from desist.console import seconds
from desist.console.format import clean, count, milliseconds, one_line
from desist.run.events.base import content_text

__all__ = ["heading", "padded", "run_lines", "whole_span"]


def run_lines(
    run: RunInfo, life: LiveInfo, tree: RunTree | None, console: Console, height: int, right: Text
) -> list[RenderableType]:
    """Return `height` lines about a run.

    Parameters:
        tree: its steps and its text; if None, the running steps are shown on one line.
        right: the right end of the first line.
    """
    name = Text.assemble((one_line(run.what, 60), "bold"), "  ", status_text(run.status, console.encoding))
    name.append(f"  {age_of(run)}", style="dim")
    lines: list[RenderableType] = [heading(name, right)]
    lines += [_fact("asked", run.asked)] if run.asked else []
    lines += [_fact("at", " › ".join(run.steps))] if run.steps and tree is None else []
    lines += _facts(run, life, tree.tokens if tree is not None else 0)
    text_so_far = content_text((run.output or {}).get("content"))
    if tree is None:
        lines += (
            [_fact("said", "…" + text_so_far[-150:] if len(text_so_far) > 150 else text_so_far)] if text_so_far else []
        )
    else:
        lines.append(Rule(style="dim"))
        free = max(0, height - len(lines) - 1)
        steps = list(_steps(tree.steps, console.encoding))[-max(3, free // 2) :]
        text = Text(clean((tree.text or text_so_far)[-4000:], console.encoding)).wrap(console, console.width - 2)
        lines += [*steps, Text(""), *list(text)[-max(1, free - len(steps)) :]]
    return padded(lines, height)


def heading(left: Text, right: Text) -> Table:
    """Return one line with left-aligned and right-aligned text."""
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid


def padded(lines: Sequence[RenderableType], height: int) -> list[RenderableType]:
    """Return exactly `height` lines."""
    return [*lines[:height], *[Text("")] * (height - len(lines))]


def age_of(run: RunInfo) -> str:
    """Return the age of a live run, or the duration of an ended one."""
    return whole_span(run.age) if run.is_live else seconds(run.duration) if run.duration is not None else ""


def whole_span(value: float) -> str:
    """Return a duration in whole seconds, minutes or hours, so that the display doesn't flicker."""
    if value < 60:
        return f"{value:.0f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:02.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:02.0f} min"


def _facts(run: RunInfo, life: LiveInfo, tokens: int) -> Iterator[RenderableType]:
    """Yield a line each for usage, blocking calls, the cancel and abandoned calls."""
    tokens = max(life.tokens, tokens)
    if used := format_usage(run.output or {}) or (count(tokens, "token") if tokens else ""):
        yield _fact("used", used)
    for call in life.blocked_in[:3]:
        yield _fact("waits for", call)
    if run.cancel is not None:
        yield _fact("stopped", _cancel_text(run.cancel, life), style_of("CANCELLED"))
    for one in life.left:
        since = f", still alive {whole_span(time.time() - one['since'])}" if one.get("since") else ""
        text = f"{one['kind']} {one['name']!r} in {one.get('line') or one.get('where') or '?'}{since}"
        yield _fact("abandoned", text, "bold red")
    abandoned = (run.cancel or {}).get("abandoned")
    if abandoned and not life.left:
        yield _fact("abandoned", ", ".join(f"{one['kind']} {one['name']!r}" for one in abandoned), "bold red")


def _cancel_text(record: dict[str, Any], life: LiveInfo) -> str:
    """Return the progress of a cancel: requested, connections closed, settled."""
    began, settled = record.get("requested_at") or 0.0, record.get("settled_at")
    who = record.get("by") if record.get("by") not in (None, "desist") else record.get("source")
    parts = [f"by {who}" + (f": {record['reason']}" if record.get("reason") else "")]
    if record.get("upstream_closed"):
        parts.append(f"{count(record['upstream_closed'], 'connection')} closed")
    if settled is not None:
        parts.append(f"settled after {milliseconds(max(0.0, settled - began))}")
    else:
        parts.append(f"requested {seconds(max(0.0, time.time() - began))} ago")
        parts += [f"{seconds(life.grace_left)} of grace left"] if life.grace_left else []
    return ", ".join(parts)


def _fact(label: str, value: str, style: str = "") -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"  {label:<11}", style="dim")
    line.append(one_line(value, 300), style=style)
    return line


def _steps(steps: Iterable[Node], encoding: str, depth: int = 1) -> Iterator[RenderableType]:
    """Yield a line for each step, followed by its inner steps."""
    for node in list(steps):
        line = Text("  " * depth, no_wrap=True, overflow="ellipsis")
        line.append(f"{sign_of(node.status, encoding)} ", style=style_of(node.status))
        line.append(one_line(node.name, 60), style="bold" if node.status == "RUNNING" else "")
        if (took := node.duration) is not None:
            line.append(f"  {whole_span(took) if node.status == 'RUNNING' else seconds(took)}", style="dim")
        if node.note:
            line.append(f"  {one_line(node.note, 80)}", style=style_of(node.status))
        yield line
        yield from _steps(node.inside, encoding, depth + 1)
