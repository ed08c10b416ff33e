"""Render a cancel receipt: as a panel, and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.text import Text

from desist.cancel.receipt import CancelRecord
from desist.cli.client.models import ReceiptInfo
from desist.console import cancel_rows, end_panel
from desist.console.end_panel import Row
from desist.console.format import count

__all__ = ["format_receipt", "receipt_panel", "record_of"]

_TITLES = {
    "accepted": ("cancelled", "cyan"),
    "already_cancelling": ("was already being cancelled", "cyan"),
    "already_cancelled": ("was already cancelled", "cyan"),
}


def receipt_panel(receipt: ReceiptInfo, encoding: str = "utf-8") -> RenderableType:
    """Return the panel of a receipt; one line if the cancel was not accepted."""
    if not receipt:
        return Text(f"{receipt.run_id}  {format_receipt(receipt)}", style="yellow")
    title, style = _TITLES[receipt.outcome]
    if receipt.outcome == "accepted" and not receipt.is_settled:
        title = "accepted: the run is being cancelled"
    rows: list[Row] = [("run", receipt.run_id, "bold"), *cancel_rows(record_of(receipt.plain()))]
    if not receipt.is_settled:
        rows.append(("now", "CANCELLING; the run will end CANCELLED, and --wait waits for that", "yellow"))
    return end_panel(title, rows, style, encoding)


def record_of(data: Mapping[str, Any]) -> CancelRecord | None:
    """Return the cancel record in the JSON of a run, an event or a receipt; None if there is none."""
    return msgspec.convert(data, CancelRecord) if data.get("source") else None


def format_receipt(receipt: ReceiptInfo) -> str:
    """Return a receipt as one line."""
    if receipt.outcome == "unknown":
        pending = "; a run that starts with this id within a minute is cancelled" if receipt.receipt is not None else ""
        return f"there is no such run{pending}"
    if receipt.outcome == "finished":
        return f"too late: the run had already ended {receipt.status}"
    texts = {"accepted": "accepted", "already_cancelling": "was already being cancelled"}
    text = texts.get(receipt.outcome, "was already cancelled")
    abandoned = f",  {count(len(receipt.abandoned), 'thing')} abandoned" if receipt.abandoned else ""
    return f"{text}: {receipt.status}{abandoned}"
