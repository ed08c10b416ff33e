"""The demo's receipt as a panel. All receipts of the command line use its rows of times."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from desist.cli.demo.measurements import StopMeasurement
from desist.console import end_panel, milliseconds
from desist.console.end_panel import Row
from desist.console.format import count

__all__ = ["moment_rows", "receipt"]

_BAR = 20
#: Milliseconds from which the delay of the model's stop is shown; the model is sampled every 20 ms.
_SLOW_MS = 50.0
_WHO = {"interrupt": "you, with Ctrl-C", "consumer_closed": "the reader, which stopped reading"}


def receipt(facts: StopMeasurement, encoding: str = "utf-8") -> RenderableType:
    """Return the receipt of a cancelled run, otherwise one line about its end."""
    if facts.status == "ERROR":
        return Text(f"error: {facts.error}", style="red")
    if facts.status != "CANCELLED":
        return Text("The story was finished before anybody stopped it: try a smaller --after.", style="green")
    rows = [*_cause(facts), *_times(facts), *_result_rows(facts), *_model(facts), *_abandoned(facts)]
    return Group(Text(""), end_panel("cancelled", rows, "cyan", encoding))


def _times(facts: StopMeasurement) -> list[Row]:
    return moment_rows(facts.delivered_ms, facts.settled_ms, facts.upstream_closed, facts.terminal_event_ms)


def _cause(facts: StopMeasurement) -> list[Row]:
    who = _WHO.get(facts.source or "", facts.by or "nobody")
    rows: list[Row] = [("who", who, "bold")]
    if facts.source == "user":
        rows.append(("why", facts.reason or "no reason was given", ""))
    return rows


def moment_rows(
    decided: float | None, settled: float | None, upstream_closed: int, delivered: float | None = None
) -> list[Row]:
    """Return a row for each known moment after the request. Times are in milliseconds."""
    rows: list[Row] = []
    closed = f", {count(upstream_closed, 'connection')} to the model closed" if upstream_closed else ""
    moments = (
        ("decided", decided, f"the outcome was fixed{closed}"),
        ("settled", settled, "all work was gone"),
        ("told", delivered, "stored, and the last event read"),
    )
    for label, at, text in moments:
        if at is not None:
            rows.append((label, Text.assemble((f"{_ms(at):>7}", "bold cyan"), "  ", text), ""))
    return rows


def _result_rows(facts: StopMeasurement) -> list[Row]:
    parts = []
    if facts.finished_steps:
        parts.append(f"{count(facts.finished_steps, 'step')} finished")
    if facts.interrupted_steps:
        parts.append(f"{facts.interrupted_steps} in part")
    unit = "word" if facts.scripted else "token"
    about = f" in about {count(facts.pieces, unit)}" if facts.pieces else ""
    return [("kept", ", ".join([*parts, f"{count(facts.characters, 'character')}{about}"]), "green")]


def _model(facts: StopMeasurement) -> list[Row]:
    if facts.scripted:
        return [("model", "none: this was a script" + (", cut off" if facts.model_stopped else ""), "yellow")]
    if facts.model_stopped is None:
        return [("model", f"{facts.model}: not ours to measure; its connection is closed", "")]
    if not facts.model_stopped:
        return [("model", f"{facts.model}: STILL COMPUTING", "bold red")]
    late = facts.model_idle_ms or 0.0
    when = f", {_ms(late)} later" if late >= _SLOW_MS else ""
    rows: list[Row] = [("model", f"{facts.model}: stopped{when}", "green")]
    if facts.cpu_before is not None and facts.cpu_after is not None:
        rows.append(("  before", _bar(facts.cpu_before, "s of CPU each second, while it wrote"), ""))
        rows.append(("  after", _bar(facts.cpu_after, "s of CPU in the second after the stop"), ""))
    return rows


def _abandoned(facts: StopMeasurement) -> list[Row]:
    style = "bold red" if facts.abandoned else ""
    return [("abandoned", ", ".join(facts.abandoned) or "nothing", style)]


def _bar(share: float, text: str) -> Text:
    full = min(_BAR, round(share * _BAR))
    return Text.assemble(("━" * full, "bold magenta"), ("─" * (_BAR - full), "dim"), f"  {share:.2f} {text}")


def _ms(value: float) -> str:
    return milliseconds(value / 1000)
