"""Render the details of one run: status, cancel record, tree of steps, usage, text."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from desist.cli.client.models import LiveInfo, RunInfo
from desist.cli.client.run_tree import Node, RunTree
from desist.cli.render.receipts import record_of
from desist.cli.render.run_table import span
from desist.cli.render.status import sign_of, status_text, style_of
from desist.console import cancel_rows, end_panel, seconds
from desist.console.format import clean, count, one_line
from desist.run.events.base import content_text

__all__ = ["render_run", "format_usage", "heading", "step_tree"]

#: The most characters that are shown: the first ones of a text, or the last ones of a text that grows.
SHOWN = 2000


def render_run(run: RunInfo, live: LiveInfo, console: Console, tree: RunTree | None = None) -> RenderableType:
    """Return the details of a run. With `tree`, the steps and the text are those of its events so far."""
    parts: list[RenderableType] = [heading(run, live, console)]
    output = run.output or {}
    if run.cancel is not None:
        title = "cancelled" if run.status == "CANCELLED" else "is being cancelled"
        parts.append(end_panel(title, cancel_rows(record_of(run.cancel)), "yellow", console.encoding))
    if output.get("error"):
        parts.append(Text(f"error: {clean(str(output['error']))}", style="red"))
    if output.get("store_error"):
        message = clean(str(output["store_error"]))
        unreadable = "can't be read" in message
        parts.append(Text(message if unreadable else f"its end may not be stored: {message}", style="bold red"))
    if tree is not None and tree.steps:
        parts += [Text(""), _event_tree(tree, console.encoding)]
    elif output.get("step_results") or output.get("tools"):
        parts += [Text(""), step_tree(output, console.encoding, live=run.is_live)]
    if tree is not None and tree.text:
        parts += [Text(""), Padding(Text(clean(tree.text[-SHOWN:], console.encoding)), (0, 0, 0, 2))]
    elif text := content_text(output.get("content")):
        parts += [Text(""), *_text(text, console.encoding)]
    return Group(*parts)


def heading(run: RunInfo, live: LiveInfo, console: Console) -> RenderableType:
    """Return the name, the status and the facts of a run, without its steps and its text."""
    title = Text.assemble((one_line(run.what), "bold"), "  ", status_text(run.status, console.encoding))
    return Group(title, _facts(run, live))


def _facts(run: RunInfo, live: LiveInfo) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in _rows(run, live):
        grid.add_row(label, Text(clean(value)))
    return grid


def _rows(run: RunInfo, live: LiveInfo) -> Iterator[tuple[str, str]]:
    yield "run", run.run_id
    if run.parent_run_id:
        yield "part of", run.root_run_id
    if run.continued_from:
        yield "continues", run.continued_from
    if run.asked:
        yield "asked", run.asked
    if run.session_id:
        yield "session", run.session_id
    if run.user_id:
        yield "user", run.user_id
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created_at))
    yield "began", f"{began}, {span(run.age)} ago"
    if run.duration is not None and not run.is_live:
        yield "took", seconds(run.duration)
    for call in live.blocked_in:
        yield "waits for", one_line(call)
    for one in live.left:
        yield "abandoned", f"{one['kind']} {one_line(one['name'])!r} still runs, in {one_line(one.get('where') or '?')}"
    used = format_usage(run.output or {}) or (count(live.tokens, "token") if live.tokens else "")
    if used:
        yield "used", used


def format_usage(output: dict[str, Any]) -> str:
    """Return the tokens and calls of all steps; for a live run, of the finished steps."""
    metrics = output.get("metrics") or {}
    used = [metrics, *(step.get("metrics") or {} for step in (metrics.get("steps") or {}).values())]
    if not metrics:
        used = list(_step_metrics(output.get("step_results") or ()))
    parts = []
    for name, noun in (("total_tokens", "token"), ("model_calls", "model call"), ("tool_calls", "tool call")):
        number = sum(int(one.get(name) or 0) for one in used)
        parts += [count(number, noun)] if number else []
    return ", ".join(parts)


def _step_metrics(steps: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for step in steps:
        if isinstance(step, dict):
            yield step.get("metrics") or {}
        yield from _step_metrics(step if isinstance(step, list) else step.get("steps") or ())


def step_tree(output: dict[str, Any], encoding: str = "utf-8", *, live: bool = False) -> Tree:
    """Return the steps of a workflow, or the tool calls of an agent. With `live`, unfinished steps count as running."""
    tree = Tree(Text("steps" if output.get("step_results") else "tool calls", style="dim"), guide_style="dim")
    _add(tree, output.get("step_results") or (), encoding, live)
    for call in output.get("tools") or ():
        arguments = ", ".join(
            f"{name}={one_line(repr(value), 30)}" for name, value in (call.get("tool_args") or {}).items()
        )
        status = "CANCELLED" if call.get("cancelled") else "ERROR" if call.get("tool_call_error") else "COMPLETED"
        tree.add(_line(f"{call.get('tool_name')}({arguments})", status, call.get("duration"), "", encoding))
    return tree


def _add(tree: Tree, steps: Iterable[Any], encoding: str, live: bool) -> None:
    for step in steps:
        if isinstance(step, list):
            _add(tree, step, encoding, live)
            continue
        status = _status(step, live)
        more = one_line(step.get("error") or "", 100)
        if status == "CANCELLED" and not step.get("steps"):
            more = f"{count(len(content_text(step.get('content'))), 'character')} kept"
        line = _line(str(step.get("step_name") or "step"), status, step.get("duration"), more, encoding)
        _add(tree.add(line), step.get("steps") or (), encoding, live)


def _event_tree(tree: RunTree, encoding: str) -> Tree:
    rendered = Tree(Text("steps", style="dim"), guide_style="dim")
    _add_nodes(rendered, tree.steps, encoding)
    return rendered


def _add_nodes(tree: Tree, nodes: Iterable[Node], encoding: str) -> None:
    for node in list(nodes):  # a copy: another thread may append
        line = _line(node.name, node.status, node.duration, one_line(node.note, 100), encoding)
        _add_nodes(tree.add(line), node.inside, encoding)


def _status(step: dict[str, Any], live: bool) -> str:
    if step.get("success", True) and not step.get("cancelled"):
        return "COMPLETED"
    if live and not step.get("error"):
        return "RUNNING"
    return "CANCELLED" if step.get("cancelled") else "ERROR"


def _line(name: str, status: str, duration: float | None, more: str, encoding: str) -> Text:
    parts = [one_line(name, 80), *([seconds(duration)] if duration is not None else []), *([more] if more else [])]
    return Text.assemble((f"{sign_of(status, encoding)} ", style_of(status)), " · ".join(parts))


def _text(text: str, encoding: str) -> list[RenderableType]:
    shown = Padding(Text(clean(text[:SHOWN], encoding)), (0, 0, 0, 2))
    if len(text) <= SHOWN:
        return [shown]
    return [shown, Text(f"  … {count(len(text), 'character')} in all: use --json to see them", style="dim")]
