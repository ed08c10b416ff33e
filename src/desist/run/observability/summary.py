"""Runs and receipts as plain JSON values, for the server's `/v1` and for the command line.

Used by both, so that a run has the same fields everywhere.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.run.observability.live import open_steps
from desist.run.records.json_values import dump, to_json_value
from desist.run.storage.values import StoredRun

__all__ = ["receipt_summary", "run_summary"]

#: The maximum length of an input in a summary.
MAX_INPUT = 200


def run_summary(run: StoredRun) -> dict[str, Any]:
    """Return a summary of a run, without its output, with its open steps if it is live in this process."""
    output, live = run.output, registry.get(run.run_id)
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "id": run.owner_id,
        "name": getattr(output, f"{run.kind}_name", None),
        "status": run.status.value,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "created_at": run.created_at,
        "duration": _duration(run),
        "asked": _format_input(output.input),
        "steps": open_steps(live) if live is not None else [],
        "root_run_id": run.root_run_id,
        "parent_run_id": run.parent_run_id,
        "continued_from": getattr(output, "continued_from", None),
        "store_error": getattr(output, "store_error", None),
        "cancel": to_json_value(output.cancel) if output.cancel is not None else None,
    }


def _duration(run: StoredRun) -> float | None:
    known: float | None = getattr(run.output.metrics, "duration", None)
    if known is not None or run.output.cancel is None or run.output.cancel.settled_at is None:
        return known
    return max(0.0, float(run.output.cancel.settled_at - run.created_at))


def _format_input(input: Any) -> str | None:
    """Return the beginning of an input as text: a RunInput's, or the input of a workflow."""
    value = getattr(input, "input_content", input)
    if value is None:
        return None
    text = value if isinstance(value, str) else dump(value).decode()
    return text if len(text) <= MAX_INPUT else f"{text[: MAX_INPUT - 1]}…"


def receipt_summary(receipt: CancelReceipt) -> dict[str, Any]:
    """Return the present state of a receipt."""
    record = receipt.record
    known = to_json_value(dataclasses.asdict(record)) if record is not None else {}
    status = receipt.status
    return {
        "run_id": receipt.run_id,
        "outcome": receipt.outcome.value,
        "status": status.value if status is not None else None,
        **known,
    }
