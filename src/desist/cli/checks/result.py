"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from desist.run.records.redact import redact

__all__ = ["CheckResult", "State"]


class State(str, Enum):
    """The state of a checked feature or connection."""

    ok = "ok"
    absent = "absent"  #: not installed or not configured, which is no error
    weak = "weak"  #: usable with a limitation
    broken = "broken"  #: configured, but not usable


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    area: str
    name: str
    state: State
    message: str

    def __post_init__(self) -> None:
        """Redact credentials: URLs in the environment may contain them, and errors repeat those URLs."""
        object.__setattr__(self, "message", redact(self.message))
