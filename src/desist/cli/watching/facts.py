"""The lines that a list and one run have in common: titles, ages, and what is known of a run, a line each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from desist.cli.depot import Life, RunInfo
from desist.cli.shown.card import used_words
from desist.cli.shown.status import style_of
from desist.cli.watching.lookout import Look
from desist.run.display import seconds
from desist.run.display.words import count, milliseconds, one_line

__all__ = ["fact", "facts", "padded", "rule", "state", "title", "whole_span"]


def title(left: str, right: str, look: Look) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text(left, style="bold"), state(right, look))
    return grid


def state(words: str, look: Look) -> Text:
    if look.lost is None or look.lost_at is None:
        return Text(words, style="dim")
    return Text(f" lost for {seconds(time.monotonic() - look.lost_at)}, trying again ", style="bold white on red")


def whole_span(value: float) -> str:
    """Return a span that doesn't flicker: whole seconds, minutes, hours."""
    if value < 60:
        return f"{value:.0f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:02.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:02.0f} min"


def facts(run: RunInfo, life: Life, tokens: int = 0) -> list[RenderableType]:
    """Return what it used, what it waits for, how it is stopped, what was given up: a line each."""
    lines: list[RenderableType] = []
    used = used_words(run.output or {}) or (count(max(life.tokens, tokens), "token") if life.tokens or tokens else "")
    if used:
        lines.append(fact("used", used))
    lines += [fact("waits for", place) for place in life.blocked_in[:3]]
    record = run.cancel
    if record is not None:
        lines.append(fact("stopped", stop_words(record, life), style_of("CANCELLED")))
    for one in life.left:
        since = f", still alive {whole_span(time.time() - one['since'])}" if one.get("since") else ""
        words = f"{one['kind']} {one['name']!r} in {one.get('line') or one.get('where') or '?'}{since}"
        lines.append(fact("abandoned", words, "bold red"))
    if record is not None and not life.left:
        given_up = [f"{one['kind']} {one['name']!r}" for one in record.get("abandoned") or ()]
        lines += [fact("abandoned", ", ".join(given_up), "bold red")] if given_up else []
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


def fact(label: str, words: str, style: str = "") -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"  {label:<11}", style="dim")
    line.append(one_line(words, 300), style=style)
    return line


def rule() -> Rule:
    return Rule(style="dim")


def padded(lines: Sequence[RenderableType], height: int) -> list[RenderableType]:
    return [*lines[:height], *[Text("")] * max(0, height - len(lines))]
