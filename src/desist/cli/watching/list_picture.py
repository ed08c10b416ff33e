"""How many runs look: a list, with the selected one beneath it. As many lines as the screen has, no more."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from desist.cli.depot import Life, RunInfo
from desist.cli.shown.status import status_text
from desist.cli.shown.table import why_words
from desist.cli.watching.facts import fact, facts, padded, rule, title, whole_span
from desist.cli.watching.lookout import Look
from desist.run.base import content_text
from desist.run.display import seconds
from desist.run.display.words import count, one_line

__all__ = ["list_picture"]

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
    head = title(f"desist watch · {name}", f"{count(live, 'live run')}, {len(look.runs)} shown", look)
    if shown:
        table: RenderableType = _table(console, shown, selected - first, look.lost is not None)
    else:
        table = Group(Text(""), Text("  no runs yet" if look.lost is None else "  nothing was seen yet", style="dim"))
    below = _closely(look.runs[selected], look, console) if shown else []
    filler = [Text("")] * (room - max(1, len(shown)))
    return Group(head, Text(""), table, *filler, rule(), *padded(below, _BELOW - 1), words)


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
        age = whole_span(run.age) if run.is_live else (seconds(run.duration) if run.duration is not None else "")
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


def _closely(run: RunInfo | None, look: Look, console: Console) -> list[RenderableType]:
    """Return the lines about the selected run."""
    if run is None:
        return []
    whole = look.chosen if look.chosen is not None and look.chosen.run_id == run.run_id else run
    life = look.life if whole is look.chosen else Life()
    lines: list[RenderableType] = [Text.assemble((one_line(run.what, 60), "bold"), "  ", (run.run_id, "dim"))]
    if run.asked:
        lines.append(fact("asked", run.asked))
    if run.steps:
        lines.append(fact("at", " › ".join(run.steps)))
    lines += facts(whole, life)
    text = content_text((whole.output or {}).get("content"))
    if text:
        lines.append(fact("said", "…" + one_line(text[-150:], 160) if len(text) > 150 else one_line(text)))
    return lines
