"""What commands can ask of a depot, and how they say what they mean."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from desist.cli.client.models import LiveInfo, ReceiptInfo, RunInfo

__all__ = ["CancelOptions", "RunClient", "RunFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are meant. What is None or empty doesn't filter. Runs inside of others are never meant."""

    statuses: Sequence[str] = ()
    workflow: str | None = None  #: its name or id
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    older_than: float | None = None  #: seconds since they began
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOptions:
    """How to cancel; see `desist.run.cancel.cancel`."""

    reason: str | None = None
    by: str | None = None
    grace: float | None = None
    force: bool = False
    scope: Literal["tree", "run"] = "tree"
    compensate: bool = False


class RunClient(Protocol):
    """A place where runs are. Its methods wait, and are called from any thread.

    They raise `NothingFound` for a run that isn't there, `Unreachable` for a server that doesn't answer, and other
    `DesistError`s for what can't be done.
    """

    name: str  #: what it is, for people

    def runs(self, run_filter: RunFilter) -> list[RunInfo]:
        """Return the runs that are meant, the newest first."""

    def run(self, run_id: str) -> RunInfo:
        """Return a run with its output."""

    def steps(self, run: RunInfo) -> list[str]:
        """Return the names of the open steps of a live run, the outermost first. To be asked again and again."""

    def life(self, run_id: str) -> LiveInfo:
        """Return what lives of a run now, as far as that can be seen from here."""

    def cancel(self, run_id: str, how: CancelOptions) -> ReceiptInfo:
        """Cancel a run, and return the receipt without waiting. For an unknown run its outcome is `unknown`."""

    def settled(self, receipt: ReceiptInfo, seconds: float | None) -> ReceiptInfo:
        """Wait until a cancelled run has settled, for some seconds at most; return the receipt as it is then."""

    def events(self, run_id: str, *, after: int | None, follow: bool) -> Generator[dict[str, Any], None, None]:
        """Return the events of a run after an index, as dicts with `event_index`: until it has ended, or with
        `follow=False` those that there are. None is lost or told twice, though a server be lost meanwhile.

        Close it when it is left, and not at the end of the program: it may hold what other threads use.
        """

    def close(self) -> None:
        """Let go of it."""
