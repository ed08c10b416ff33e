"""The `x` key: `Canceller` requests cancels in threads and keeps the answers. A request is never dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from desist.cli.client import CancelOptions, ReceiptInfo, RunClient, RunInfo
from desist.cli.options import login
from desist.cli.render.receipts import format_receipt
from desist.console.format import milliseconds
from desist.exceptions import DesistError

__all__ = ["Canceller"]

#: Seconds to wait for pending answers at the end.
FINISH_TIMEOUT = 35.0


class Canceller:
    """Cancels runs.

    Parameters:
        client: the client of the runs.
        on_message: called in a thread when the message has changed.
    """

    def __init__(self, client: RunClient, on_message: Callable[[], object]) -> None:
        self._client, self._on_message = client, on_message
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._accepted: set[str] = set()
        self.message, self.failed = "", False  #: the message about the last request
        self.answers: dict[str, str] = {}  #: the last answer by run id
        self._pending: str | None = None  #: the run of the message, until its end was seen

    def press(self, run: RunInfo) -> None:
        """Cancel a run; a run that is cancelling is forced."""
        with self._lock:
            if run.run_id in self._threads:
                return
            if not run.is_live:
                self._set_message(run.run_id, f"it has ended: {run.status}", failed=False)
                self._pending = None
                return
            force = run.run_id in self._accepted or run.status == "CANCELLING"
            self.message, self.failed = f"{run.run_id[:8]}: asking to {'force it' if force else 'stop'} ...", False
            thread = threading.Thread(target=self._cancel, args=(run.run_id, force), name="desist-stop", daemon=True)
            self._threads[run.run_id] = thread
        thread.start()

    def _cancel(self, run_id: str, force: bool) -> None:
        failed = False
        try:
            receipt: ReceiptInfo = self._client.cancel(
                run_id, CancelOptions(by=login(), reason="stopped in desist watch", force=force)
            )
            text = format_receipt(receipt)
            if receipt and not receipt.is_settled:
                text += "; no time is left for cleanup" if force else "; x again leaves no time for cleanup"
        except DesistError as error:
            text, failed = f"NOT stopped: {error}", True
        with self._lock:
            del self._threads[run_id]
            if not failed:
                self._accepted.add(run_id)
            self._set_message(run_id, text, failed=failed)
        self._on_message()

    def _set_message(self, run_id: str, text: str, *, failed: bool) -> None:
        self.message, self.failed = f"{run_id[:8]}: {text}", failed
        self.answers[run_id] = text
        self._pending = None if failed else run_id

    def seen(self, run: RunInfo) -> None:
        """Handle a new state of a run. If it is the run cancelled last and has settled, show that."""
        settled, requested = (run.cancel or {}).get("settled_at"), (run.cancel or {}).get("requested_at")
        with self._lock:
            if run.run_id == self._pending and not run.is_live and settled is not None and requested is not None:
                self._set_message(
                    run.run_id,
                    f"{run.status}, settled after {milliseconds(max(0.0, settled - requested))}",
                    failed=False,
                )
                self._pending = None

    def finish(self) -> None:
        """Wait for pending answers."""
        for thread in list(self._threads.values()):
            thread.join(FINISH_TIMEOUT)
