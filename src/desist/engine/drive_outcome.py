"""`DriveOutcome`: what a call of `drive` did, and how the run stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from desist.cancel.status import RunStatus

__all__ = ["DriveOutcome", "DriveResult"]


class DriveResult(str, Enum):
    """What a call of `drive` did."""

    driven = "DRIVEN"  #: this call has executed the run to its end
    owned_elsewhere = "OWNED_ELSEWHERE"  #: another call or process has the run, which hasn't ended
    nothing_to_do = "NOTHING_TO_DO"  #: the run had ended, or waits for an answer


@dataclass(frozen=True, slots=True)
class DriveOutcome:
    """The outcome of a call of `drive`. A cancelled or failed run is an outcome, too."""

    run_id: str
    result: DriveResult  #: what this call did
    status: RunStatus  #: of the run, when the call returned
    output: Any  #: the `WorkflowRunOutput` of the run, as far as it got

    @property
    def ended(self) -> bool:
        """Whether the run has ended. If not, an engine that retries should call `drive` again later."""
        return self.status.is_final
