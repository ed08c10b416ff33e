"""`Canceller`: the `x` key. Cancels are requested in threads, and the answers are kept. A request is never dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rich.text import Text

from desist.cli.client import CancelOptions, RunClient, RunInfo
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
        on_answer: called in a thread when an answer has arrived.
    """

    def __init__(self, client: RunClient, on_answer: Callable[[], object]) -> None:
        self._client, self._on_answer = client, on_answer
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}  #: of the pending requests, by run id
        self._accepted: set[str] = set()
        self._settling: str | None = None  #: the run of the last answer, until its end was seen
        self._message, self._failed = "", False
        self.answers: dict[str, str] = {}  #: the last answer by run id

    def cancel(self, run: RunInfo) -> None:
        """Cancel a run; a run that is cancelling is forced."""
        with self._lock:
            if run.run_id in self._threads:
                return
            if not run.is_live:
                self._answer(run.run_id, f"the run has already ended: {run.status}")
                return
            force = run.run_id in self._accepted or run.status == "CANCELLING"
            self._message = f"{run.run_id[:8]}: {'forcing' if force else 'cancelling'} ..."
            self._failed = False
            thread = threading.Thread(target=self._work, args=(run.run_id, force), name="desist-cancel", daemon=True)
            self._threads[run.run_id] = thread
        thread.start()

    def _work(self, run_id: str, force: bool) -> None:
        options = CancelOptions(by=login(), reason="cancelled in desist watch", force=force)
        try:
            receipt = self._client.cancel(run_id, options)
            text, failed = format_receipt(receipt), False
            if receipt and not receipt.is_settled:
                text += "; no time is left for cleanup" if force else "; x again leaves no time for cleanup"
        except DesistError as error:
            text, failed = f"NOT cancelled: {error}", True
        with self._lock:
            del self._threads[run_id]
            self._answer(run_id, text, failed=failed)
            if not failed:
                self._accepted.add(run_id)
                self._settling = run_id
        self._on_answer()

    def _answer(self, run_id: str, text: str, *, failed: bool = False) -> None:
        self._message, self._failed = f"{run_id[:8]}: {text}", failed
        self.answers[run_id] = text
        self._settling = None

    def seen(self, run: RunInfo) -> None:
        """Handle a new state of a run. If it is the run cancelled last and has settled, show that."""
        requested, settled = (run.cancel or {}).get("requested_at"), (run.cancel or {}).get("settled_at")
        with self._lock:
            if run.run_id == self._settling and not run.is_live and requested is not None and settled is not None:
                took = milliseconds(max(0.0, settled - requested))
                self._answer(run.run_id, f"{run.status}, settled after {took}")

    def text(self) -> Text:
        """Return the message about the last request."""
        style = "bold red" if self._failed else "yellow"
        return Text(self._message or " ", style=style, no_wrap=True, overflow="ellipsis")

    def finish(self) -> None:
        """Wait for pending answers."""
        for thread in list(self._threads.values()):
            thread.join(FINISH_TIMEOUT)
