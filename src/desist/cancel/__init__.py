"""Stopping: what code that is run by desist may use, and what a cancel is made of.

In a tool or step: `check_cancelled()`, `sleep(seconds)`, `on_cancel(callback)`, `with shield():`, `current_token()`.
From outside: `desist.run.cancel`, or the `cancel` methods of workflows and agents.
"""

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned, CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome, Reach, Scope
from desist.cancel.shield import shield
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken, check_cancelled, current_token, on_cancel, sleep, use_token
from desist.exceptions import RunCancelled

__all__ = [
    "Abandoned",
    "CancelReason",
    "CancelReceipt",
    "CancelRecord",
    "CancelToken",
    "Outcome",
    "Reach",
    "RunCancelled",
    "RunStatus",
    "Scope",
    "Source",
    "check_cancelled",
    "current_token",
    "on_cancel",
    "shield",
    "sleep",
    "use_token",
]
