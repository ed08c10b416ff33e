"""Render a cancel receipt: as a panel like the demo's, and as one line."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from desist.cancel.reason import Source
from desist.cli.client.models import ReceiptInfo
from desist.cli.demo.receipt_panel import moment_rows
from desist.console import end_panel
from desist.console.end_panel import Row, format_requester
from desist.console.format import count, one_line

__all__ = ["cancel_record_rows", "format_receipt", "receipt_panel"]

_TITLES = {
    "accepted": ("cancelled", "cyan"),
    "already_cancelling": ("was being cancelled already", "cyan"),
    "already_cancelled": ("was cancelled already", "cyan"),
}


def receipt_panel(receipt: ReceiptInfo, encoding: str = "utf-8") -> RenderableType:
    """Return the panel of a receipt; one line if the cancel was not accepted."""
    if not receipt:
        return Text(f"{receipt.run_id}  {format_receipt(receipt)}", style="yellow")
    title, style = _TITLES[receipt.outcome]
    if receipt.outcome == "accepted" and not receipt.is_settled:
        title = "accepted: it is being cancelled"
    rows: list[Row] = [("run", receipt.run_id, "bold"), *cancel_record_rows(receipt.plain())]
    if not receipt.is_settled:
        rows.append(("now", "CANCELLING: it ends CANCELLED; --wait waits for the end", "yellow"))
    return end_panel(title, rows, style, encoding)


def cancel_record_rows(record: dict[str, Any]) -> list[Row]:
    """Return the rows of a receipt or a cancel record: requester, reason, times, cleanup, abandoned calls."""
    rows: list[Row] = []
    if record.get("source"):
        who = format_requester(Source(record["source"]), record.get("by"))
        rows.append(("who", who, "bold"))
        if record.get("reason") != who:
            rows.append(("why", one_line(record.get("reason") or "no reason was given"), ""))
    began = record.get("requested_at")
    moments = {name: _after(began, record.get(f"{name}_at")) for name in ("delivered", "settled")}
    rows += moment_rows(moments["delivered"], moments["settled"], record.get("upstream_closed") or 0)
    for hook in record.get("cleanup") or ():
        text = f"{one_line(hook['name'])}: {hook['status']}" + (
            f" ({one_line(hook['error'])})" if hook.get("error") else ""
        )
        rows.append((hook["kind"], text, "" if hook["status"] == "done" else "red"))
    if record.get("settled_at") is not None:
        rows += _abandoned(record.get("abandoned") or [])
    return rows


def _after(began: float | None, at: float | None) -> float | None:
    return None if began is None or at is None else max(0.0, (at - began) * 1000)


def _abandoned(items: list[dict[str, Any]]) -> list[Row]:
    if not items:
        return [("abandoned", "nothing", "")]
    end = "could not be stopped; its result is thrown away"
    return [("abandoned", f"{item['kind']} {one_line(item['name'])!r} {end}", "bold red") for item in items]


def format_receipt(receipt: ReceiptInfo) -> str:
    """Return a receipt as one line."""
    if receipt.outcome == "unknown":
        pending = "; one that starts with this id within a minute is cancelled" if receipt.asked is not None else ""
        return f"there is no such run{pending}"
    if receipt.outcome == "finished":
        return f"too late: it had ended {receipt.status}"
    texts = {"accepted": "accepted", "already_cancelling": "was being cancelled already"}
    text = texts.get(receipt.outcome, "was cancelled already")
    abandoned = f",  {count(len(receipt.abandoned), 'thing')} abandoned" if receipt.abandoned else ""
    return f"{text}: {receipt.status}{abandoned}"
