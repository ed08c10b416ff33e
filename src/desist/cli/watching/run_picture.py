"""How one run looks: what is known of it, its steps as a tree, the end of its text. It fits the screen."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from desist.cli.depot.story import Node, Story
from desist.cli.shown.status import sign_of, status_text, style_of
from desist.cli.watching.facts import fact, facts, padded, rule, state, whole_span
from desist.cli.watching.lookout import Look
from desist.run.base import content_text
from desist.run.display import seconds
from desist.run.display.words import clean, one_line

__all__ = ["run_picture"]


def run_picture(console: Console, run_id: str, look: Look, story: Story, words: RenderableType) -> RenderableType:
    """Return one run: what is known of it, its steps, the end of its text."""
    run = look.chosen
    if run is None:
        trouble = look.gone or look.lost or "looking ..."
        return Group(
            Text(f"desist watch · {run_id}", style="bold"), Text(""), Text(trouble, style="yellow"), Text(""), words
        )
    age = whole_span(run.age) if run.is_live else seconds(run.duration) if run.duration is not None else ""
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    title.add_column(no_wrap=True, justify="right")
    name = Text.assemble((one_line(run.what, 60), "bold"), "  ", status_text(run.status, console.encoding), f"  {age}")
    title.add_row(name, state(run.run_id, look))
    lines: list[RenderableType] = [
        title,
        *([fact("asked", run.asked)] if run.asked else []),
        *facts(run, look.life, story.tokens),
    ]
    steps = list(_tree_lines(story.steps, console)) if story.steps else []
    room = console.height - len(lines) - 4
    shown = steps[-max(3, room // 2) :]
    text = _tail(story.text or content_text((run.output or {}).get("content")), console, room - len(shown))
    return Group(*lines, rule(), *shown, Text(""), *padded(text, room - len(shown)), words)


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
            line.append(f"  {seconds(took) if node.status != 'RUNNING' else whole_span(took)}", style="dim")
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
