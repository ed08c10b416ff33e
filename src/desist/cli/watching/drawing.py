"""How watching looks: a list with the selected run beneath it, or one run with its steps and its text.

Every picture fits the screen that it is drawn for: as many lines as there are, no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from desist.cli.depot import Life, RunInfo
from desist.cli.depot.story import Node, Story
from desist.cli.shown.card import used_words
from desist.cli.shown.status import sign_of, status_text, style_of
from desist.cli.shown.table import why_words
from desist.cli.watching.lookout import Look
from desist.run.base import content_text
from desist.run.display import seconds
from desist.run.display.words import clean, count, milliseconds, one_line

__all__ = ["list_picture", "run_picture"]

_BELOW = 9  #: lines for the selected run, with the rule above them


def list_picture(console: Console, name: str, look: Look, selected: int, words: RenderableType) -> RenderableType:
    """Return the list.

    Parameters:
        name: of the depot.
        selected: place of the run that is selected.
        words: the last two lines.
    """
    live = sum(run.is_live for run in look.runs)
    room = max(1, console.height - _BELOW - 5)
    first = min(max(0, selected - room + 1), max(0, len(look.runs) - room))
    shown = look.runs[first : first + room]
    head = _title(f"desist watch · {name}", f"{count(live, 'live run')}, {len(look.runs)} shown", look)
    if shown:
        table: RenderableType = _table(console, shown, selected - first, look.lost is not None)
    else:
        table = Group(Text(""), Text("  no runs yet" if look.lost is None else "  nothing was seen yet", style="dim"))
    below = _closely(look.runs[selected], look, console) if shown else []
    filler = [Text("")] * (room - max(1, len(shown)))
    return Group(head, Text(""), table, *filler, _rule(), *_padded(below, _BELOW - 1), words)


def _title(left: str, right: str, look: Look) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text(left, style="bold"), _state(right, look))
    return grid


def _state(words: str, look: Look) -> Text:
    if look.lost is None or look.lost_at is None:
        return Text(words, style="dim")
    return Text(f" lost for {seconds(time.monotonic() - look.lost_at)}, trying again ", style="bold white on red")


def _table(console: Console, runs: Sequence[RunInfo], selected: int, stale: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    wide = console.width >= 100
    table.add_column("  RUN", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("WHAT", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("STEP", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("AGE", no_wrap=True, justify="right")
    if wide:
        table.add_column("WHY", no_wrap=True, overflow="ellipsis", ratio=2, style="dim")
    for place, run in enumerate(runs):
        mark = "▸ " if place == selected else "  "
        age = _age(run.age) if run.is_live else (seconds(run.duration) if run.duration is not None else "")
        status = status_text(run.status, console.encoding)
        cells = [
            Text(mark + run.run_id[:8]),
            Text(status.plain) if place == selected else status,
            Text(one_line(run.what, 60)),
            Text(" › ".join(one_line(step, 40) for step in run.steps)),
            Text(age),
        ]
        cells += [why_words(run)] if wide else []
        style = "bold reverse" if place == selected else "dim" if stale or not run.is_live else ""
        table.add_row(*cells, style=style)
    return table


def _age(value: float) -> str:
    """Return a span that doesn't flicker: whole seconds, minutes, hours."""
    if value < 60:
        return f"{value:.0f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:02.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:02.0f} min"


def _closely(run: RunInfo | None, look: Look, console: Console) -> list[RenderableType]:
    """Return the lines about the selected run."""
    if run is None:
        return []
    whole = look.chosen if look.chosen is not None and look.chosen.run_id == run.run_id else run
    life = look.life if whole is look.chosen else Life()
    lines: list[RenderableType] = [Text.assemble((one_line(run.what, 60), "bold"), "  ", (run.run_id, "dim"))]
    if run.asked:
        lines.append(_fact("asked", run.asked))
    if run.steps:
        lines.append(_fact("at", " › ".join(run.steps)))
    lines += facts(whole, life)
    text = content_text((whole.output or {}).get("content"))
    if text:
        lines.append(_fact("said", "…" + one_line(text[-150:], 160) if len(text) > 150 else one_line(text)))
    return lines


def facts(run: RunInfo, life: Life, tokens: int = 0) -> list[RenderableType]:
    """Return what it used, what it waits for, how it is stopped, what was given up: a line each."""
    lines: list[RenderableType] = []
    used = used_words(run.output or {}) or (count(max(life.tokens, tokens), "token") if life.tokens or tokens else "")
    if used:
        lines.append(_fact("used", used))
    lines += [_fact("waits for", place) for place in life.blocked_in[:3]]
    record = run.cancel
    if record is not None:
        lines.append(_fact("stopped", stop_words(record, life), style_of("CANCELLED")))
    for one in life.left:
        since = f", still alive {_age(time.time() - one['since'])}" if one.get("since") else ""
        words = f"{one['kind']} {one['name']!r} in {one.get('line') or one.get('where') or '?'}{since}"
        lines.append(_fact("abandoned", words, "bold red"))
    if record is not None and not life.left:
        given_up = [f"{one['kind']} {one['name']!r}" for one in record.get("abandoned") or ()]
        lines += [_fact("abandoned", ", ".join(given_up), "bold red")] if given_up else []
    return lines


def stop_words(record: dict[str, object], life: Life) -> str:
    """Return how far a stop is: requested, connections closed, settled."""
    began: float = record.get("requested_at") or 0.0  # type: ignore[assignment]  # JSON
    settled: float | None = record.get("settled_at")  # type: ignore[assignment]
    who = record.get("by") if record.get("by") not in (None, "desist") else record.get("source")
    words = [f"by {who}" + (f": {record['reason']}" if record.get("reason") else "")]
    if record.get("upstream_closed"):
        words.append(f"{count(int(str(record['upstream_closed'])), 'connection')} closed")
    if settled is not None:
        words.append(f"settled after {milliseconds(max(0.0, settled - began))}")
    else:
        words.append(f"requested {seconds(max(0.0, time.time() - began))} ago")
        words += [f"{seconds(life.grace_left)} of grace left"] if life.grace_left else []
    return ", ".join(words)


def _fact(label: str, words: str, style: str = "") -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"  {label:<11}", style="dim")
    line.append(one_line(words, 300), style=style)
    return line


def _rule() -> Rule:
    return Rule(style="dim")


def _padded(lines: Sequence[RenderableType], height: int) -> list[RenderableType]:
    return [*lines[:height], *[Text("")] * max(0, height - len(lines))]


def run_picture(console: Console, run_id: str, look: Look, story: Story, words: RenderableType) -> RenderableType:
    """Return one run: what is known of it, its steps, the end of its text."""
    run = look.chosen
    if run is None:
        trouble = look.gone or look.lost or "looking ..."
        return Group(
            Text(f"desist watch · {run_id}", style="bold"), Text(""), Text(trouble, style="yellow"), Text(""), words
        )
    age = _age(run.age) if run.is_live else seconds(run.duration) if run.duration is not None else ""
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    title.add_column(no_wrap=True, justify="right")
    name = Text.assemble((one_line(run.what, 60), "bold"), "  ", status_text(run.status, console.encoding), f"  {age}")
    title.add_row(name, _state(run.run_id, look))
    lines: list[RenderableType] = [
        title,
        *([_fact("asked", run.asked)] if run.asked else []),
        *facts(run, look.life, story.tokens),
    ]
    steps = list(_tree_lines(story.steps, console)) if story.steps else []
    room = console.height - len(lines) - 4
    shown = steps[-max(3, room // 2) :]
    text = _tail(story.text or content_text((run.output or {}).get("content")), console, room - len(shown))
    return Group(*lines, _rule(), *shown, Text(""), *_padded(text, room - len(shown)), words)


def _tree_lines(steps: Iterable[Node], console: Console) -> Iterable[RenderableType]:
    """Return the tree, a line at a time, so that it can be cut."""
    tree = Tree(Text(""), guide_style="dim", hide_root=True)
    _grow(tree, steps, console.encoding)
    for line in console.render_lines(tree, console.options.update(height=None), pad=False):
        text = Text("  ", no_wrap=True, overflow="ellipsis")
        for segment in line:
            text.append(segment.text, style=segment.style)
        yield text


def _grow(tree: Tree, steps: Iterable[Node], encoding: str) -> None:
    for node in list(steps):
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{sign_of(node.status, encoding)} ", style=style_of(node.status))
        line.append(one_line(node.name, 60), style="bold" if node.status == "RUNNING" else "")
        took = node.took
        if took is not None:
            line.append(f"  {seconds(took) if node.status != 'RUNNING' else _age(took)}", style="dim")
        if node.note:
            line.append(f"  {one_line(node.note, 80)}", style=style_of(node.status))
        _grow(tree.add(line), node.inside, encoding)


def _tail(text: str, console: Console, height: int) -> list[RenderableType]:
    """Return the last lines of a text, as they are wrapped."""
    if height <= 0 or not text:
        return []
    last = Padding(Text(clean(text[-4000:], console.encoding)), (0, 2))
    lines = console.render_lines(last, console.options.update(height=None), pad=False)
    told = []
    for line in lines[-height:]:
        told.append(Text("".join(segment.text for segment in line), no_wrap=True, overflow="ellipsis"))
    return list(told)
