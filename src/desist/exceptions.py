"""Every error that desist raises, in one tree.

    BaseException
    └── RunCancelled                   the run was cancelled; never an ordinary Exception
    Exception
    └── DesistError
        ├── ConfigurationError         invalid configuration, found before anything ran
        │   ├── MissingExtraError      an optional dependency is not installed
        │   └── UnsupportedError       a parameter or name that desist doesn't have
        │       └── SyncBackgroundError    a background run was requested by sync code
        ├── RunStateError              a transition that the status table forbids
        │   └── AnswerRefusedError         another answer, a deadline or the end of the run was first
        ├── RunIdInUseError            a live run already has this id
        ├── ModelError                 a model call failed
        │   └── ModelResponseError     the response of the model could not be read
        ├── ToolError                  a tool can't be called as requested
        ├── StepError                  a step failed
        ├── StoreError                 a database can't be opened, read or written
        │   ├── UnreadableError        the record of a run can't be read
        │   └── LeaseLostError         another process owns the run: this one may no longer write it
        ├── TooManyAbandonedError      too many threads still run abandoned calls
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
    "AnswerRefusedError",
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
    """The run that this code belongs to was cancelled.

    A `BaseException`, so that `except Exception` in a tool can't swallow it. Let it propagate, or clean up and raise it
    again: the outcome is already decided. `reason` is the `CancelReason`, or None if it is unknown.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"run cancelled: {self.reason}" if self.reason is not None else "run cancelled"


#: The name in the API that desist follows.
RunCancelledException = RunCancelled


class DesistError(Exception):
    """Base of every ordinary error of desist."""

    #: Whether a retry may succeed. Steps and agents retry only such errors.
    retryable: bool = False


class ConfigurationError(DesistError, ValueError):
    """The configuration is invalid. Raised before anything runs."""


class MissingExtraError(ConfigurationError, ImportError):
    """A required optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'desist[{extra}]'")
        self.extra = extra


class UnsupportedError(ConfigurationError, TypeError):
    """A parameter or name that desist doesn't have. Refused, rather than accepted without an effect."""


class SyncBackgroundError(UnsupportedError, RuntimeError):
    """A background run was requested by sync code: use `arun(background=True)`."""


class RunStateError(DesistError, RuntimeError):
    """A status transition that the status table forbids."""


class AnswerRefusedError(RunStateError, ValueError):
    """An answer, or the continuation of a paused run, came too late. `receipt` says what was first, by whom and when.

    `receipt` is an `AnswerReceipt`.
    """

    def __init__(self, message: str, receipt: Any = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class RunIdInUseError(DesistError, ValueError):
    """A run with this id is live in this process."""


class ModelError(DesistError):
    """A model call failed. `status_code` is the HTTP status, or None where there was no response."""

    def __init__(self, message: str, *, status_code: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retryable = retryable


class ModelResponseError(ModelError):
    """The response of the model can't be read."""


class ToolError(DesistError):
    """A tool can't be called as the model or the program requested."""


class StepError(DesistError):
    """A step of a workflow failed or can't be run."""

    retryable = True


class StoreError(DesistError, RuntimeError):
    """A database can't be opened, read or written. The message names the database."""


class UnreadableError(StoreError):
    """The record of a run can't be read. The message names the run and the cause. A retry doesn't help."""


class LeaseLostError(StoreError):
    """Another process owns the run or has ended it. Writes of this process are rejected."""


class TooManyAbandonedError(DesistError, RuntimeError):
    """Too many threads still run abandoned calls, so no new blocking call is started."""


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
