"""Render the end of the demo: the receipt of the cancel, with what the model did after it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from desist.cli.demo.measurements import DemoResult
from desist.console import cancel_rows, end_panel, milliseconds
from desist.console.end_panel import Row

__all__ = ["receipt_panel"]

_BAR = 20
#: Seconds from which the delay of the model's stop is shown; the model is sampled every 20 ms.
_SLOW = 0.05


def receipt_panel(result: DemoResult, encoding: str = "utf-8") -> RenderableType:
    """Return the receipt of a cancelled run, otherwise one line about its end."""
    terminal = result.terminal
    if terminal.is_error:
        return Text(f"error: {getattr(terminal, 'error', None) or terminal.content}", style="red")
    if not terminal.is_cancelled:
        return Text("The story was finished before it was cancelled: try a smaller --after.", style="green")
    rows = cancel_rows(result.record, result.counts, result.read_at, more=_model_rows(result))
    return Group(Text(""), end_panel("cancelled", rows, "cyan", encoding))


def _model_rows(result: DemoResult) -> list[Row]:
    label, meter = result.demo.label, result.meter
    if result.demo.script is not None:
        return [("model", "none: this was a script" + (", interrupted" if result.model_stopped else ""), "yellow")]
    if result.model_stopped is None:
        return [("model", f"{label}: can't be measured here; its connection is closed", "")]
    if not result.model_stopped:
        return [("model", f"{label}: STILL COMPUTING", "bold red")]
    idle = meter.idle_after or 0.0
    later = f", {milliseconds(idle)} later" if idle >= _SLOW else ""
    rows: list[Row] = [("model", f"{label}: stopped{later}", "green")]
    if meter.before is not None and meter.after is not None:
        rows.append(("  before", _bar(meter.before, "s of CPU each second, while it wrote"), ""))
        rows.append(("  after", _bar(meter.after, "s of CPU in the second after the cancel"), ""))
    return rows


def _bar(share: float, text: str) -> Text:
    full = min(_BAR, round(share * _BAR))
    return Text.assemble(("━" * full, "bold magenta"), ("─" * (_BAR - full), "dim"), f"  {share:.2f} {text}")
