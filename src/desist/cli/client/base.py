"""`RunClient`, the protocol of all clients, and its parameters: a filter of runs and the options of a cancel."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from desist.cli.client.models import LiveInfo, ReceiptInfo, RunInfo

__all__ = ["CancelOptions", "RunClient", "RunFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A filter of root runs. A field that is None or empty matches every run."""

    statuses: Sequence[str] = ()
    workflow: str | None = None  #: its name or id
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    older_than: float | None = None  #: seconds since the start of the run
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOptions:
    """The options of a cancel; see `desist.run.cancel.cancel`."""

    reason: str | None = None
    by: str | None = None
    grace: float | None = None
    force: bool = False
    scope: Literal["tree", "run"] = "tree"
    compensate: bool = False


class RunClient(Protocol):
    """Access to runs. All methods block and are thread-safe.

    They raise `NotFound` for an unknown run, `Unreachable` if the server doesn't respond, and other `DesistError`s
    for requests that fail.
    """

    name: str  #: display name, without credentials

    def runs(self, run_filter: RunFilter) -> list[RunInfo]:
        """Return the matching runs, newest first."""

    def run(self, run_id: str) -> RunInfo:
        """Return a run with its output."""

    def steps(self, run: RunInfo) -> list[str]:
        """Return the names of the open steps of a live run, the outermost first. Suitable for polling."""

    def live_info(self, run_id: str) -> LiveInfo:
        """Return the live state of a run, as far as it is visible to this client."""

    def cancel(self, run_id: str, options: CancelOptions) -> ReceiptInfo:
        """Cancel a run and return the receipt without waiting. For an unknown run the outcome is `unknown`."""

    def wait_settled(self, receipt: ReceiptInfo, seconds: float | None) -> ReceiptInfo:
        """Wait until a cancelled run has settled, for at most `seconds`; return the receipt as of then."""

    def events(self, run_id: str, *, after: int | None, follow: bool) -> Generator[dict[str, Any], None, None]:
        """Return the events of a run after an index, as dicts with `event_index`.

        Ends with the run, or with `follow=False` after the present events. No event is lost or duplicated, even if the
        connection to the server is lost.

        Close the generator as soon as it isn't needed: it may hold resources that other threads use.
        """

    def close(self) -> None:
        """Release all resources."""
