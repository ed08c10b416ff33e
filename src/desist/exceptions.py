"""Every error that desist raises, in one tree.

    BaseException
    └── RunCancelled                   the run was told to stop; never an ordinary Exception
    Exception
    └── DesistError
        ├── ConfigurationError         wrong before anything ran: a key, an extra, a step, a parameter
        │   ├── MissingExtraError      an optional dependency isn't installed
        │   └── UnsupportedError       a name of the API that desist doesn't have
        │       └── SyncBackgroundError    a run in the background, asked for by sync code
        ├── RunStateError              a move that the status table forbids
        ├── RunIdInUseError            a live run has this id already
        ├── ModelError                 a model call failed
        │   └── ModelResponseError     what the model sent could not be read
        ├── ToolError                  a tool can't be called as asked
        ├── StepError                  a step failed
        ├── StoreError                 a database can't be opened, read or written
        │   ├── UnreadableError        what is stored of a run can't be read
        │   └── LeaseLostError         another process has the run now: this one may not write it any more
        ├── TooManyAbandonedError      too many threads still run work that was given up
        └── AgentRunException          raised by tools to steer the agent
            ├── RetryAgentRun          show the model this message and let it try again
            ├── StopAgentRun           end the agent's run after this tool
            ├── InputCheckError        the input was refused
            └── OutputCheckError       the output was refused

This module imports nothing of desist.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AgentRunException",
    "ConfigurationError",
    "DesistError",
    "InputCheckError",
    "LeaseLostError",
    "MissingExtraError",
    "ModelError",
    "ModelResponseError",
    "OutputCheckError",
    "RetryAgentRun",
    "RunCancelled",
    "RunCancelledException",
    "RunIdInUseError",
    "RunStateError",
    "StepError",
    "StopAgentRun",
    "StoreError",
    "SyncBackgroundError",
    "TooManyAbandonedError",
    "ToolError",
    "UnreadableError",
    "UnsupportedError",
]


class RunCancelled(BaseException):
    """The run that this code works for was told to stop.

    A `BaseException`, so that `except Exception` in a tool can't swallow it. Let it pass, or clean up and raise it
    again: the outcome is decided already. `reason` is the `CancelReason`, or None where only the fact is known.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"run cancelled: {self.reason}" if self.reason is not None else "run cancelled"


#: The name under which programs of the API that we follow know it.
RunCancelledException = RunCancelled


class DesistError(Exception):
    """Base of every ordinary error of desist."""

    #: Whether trying the same thing again may help. Steps and agents don't retry what can't.
    retryable: bool = False


class ConfigurationError(DesistError, ValueError):
    """Something is wrong that could be known before anything ran."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'desist[{extra}]'")
        self.extra = extra


class UnsupportedError(ConfigurationError, TypeError):
    """A parameter or name that desist doesn't have: refused, rather than accepted without an effect."""


class SyncBackgroundError(UnsupportedError, RuntimeError):
    """A run in the background was asked for by sync code: `arun(background=True)` is the way."""


class RunStateError(DesistError, RuntimeError):
    """A run was asked to make a move that the status table forbids."""


class RunIdInUseError(DesistError, ValueError):
    """A run with this id is live in this process."""


class ModelError(DesistError):
    """A model call failed. `status_code` is the HTTP status, or None where there was no response."""

    def __init__(self, message: str, *, status_code: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retryable = retryable


class ModelResponseError(ModelError):
    """The model answered with something that can't be read."""


class ToolError(DesistError):
    """A tool can't be called as the model or the program asked."""


class StepError(DesistError):
    """A step of a workflow failed, or can't be run."""

    retryable = True


class StoreError(DesistError, RuntimeError):
    """A database can't be opened, read or written; the message names the file."""


class UnreadableError(StoreError):
    """What is stored of a run can't be read; the message names the run, and why. Trying again doesn't help."""


class LeaseLostError(StoreError):
    """Another process has taken the run over, or has ended it: what this one says of it isn't recorded any more."""


class TooManyAbandonedError(DesistError, RuntimeError):
    """Too many threads still run work that was given up, so no new blocking work is started."""


class AgentRunException(DesistError):
    """Raised by a tool to steer the agent that called it."""


class RetryAgentRun(AgentRunException):
    """Show the model this message as the tool's result and let it try again."""


class StopAgentRun(AgentRunException):
    """End the agent's run after this tool; the message becomes the tool's result."""


class InputCheckError(AgentRunException):
    """The input of a run was refused by a check."""


class OutputCheckError(AgentRunException):
    """The output of a run was refused by a check."""
