"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "State"]


class State(str, Enum):
    """How it is."""

    ok = "ok"
    absent = "absent"  #: not installed, not set up: nothing is wrong with that
    weak = "weak"  #: it works, and something is lost
    broken = "broken"  #: it is set up, and doesn't work


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found."""

    area: str
    name: str
    state: State
    words: str
