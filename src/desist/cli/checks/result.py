"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from desist.run.records.redact import redact

__all__ = ["CheckResult", "State"]


class State(str, Enum):
    """How it is."""

    ok = "ok"
    absent = "absent"  #: not installed, not set up: nothing is wrong with that
    weak = "weak"  #: it works, and something is lost
    broken = "broken"  #: it is set up, and doesn't work


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found."""

    area: str
    name: str
    state: State
    words: str

    def __post_init__(self) -> None:
        """Take credentials out of what was found: addresses of the environment have them, and errors repeat those."""
        object.__setattr__(self, "words", redact(self.words))
