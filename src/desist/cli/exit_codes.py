"""The exit codes of all commands, and errors with their own exit code. Documented in `docs/operations.md`."""

from __future__ import annotations

from enum import IntEnum

from desist.exceptions import DesistError

__all__ = ["ExitCode", "NotFound", "Unreachable", "code_of"]


class ExitCode(IntEnum):
    """The exit code of a command."""

    ok = 0
    error = 1
    usage = 2  #: from typer: an invalid option or value
    not_found = 3  #: no run has this id, or no run matches
    ended_differently = 4  #: the run has ended differently: too late for the cancel, or cancelled by someone else
    not_settled = 5  #: the run has not settled within the timeout
    hung_up = 129  #: SIGHUP: the terminal was closed
    interrupted = 130  #: Ctrl-C
    terminated = 143  #: SIGTERM


class NotFound(DesistError):
    """No run was found."""

    exit_code = ExitCode.not_found


class Unreachable(DesistError):
    """A server doesn't respond; a later attempt may succeed."""


def code_of(error: DesistError) -> int:
    """Return the exit code of an error."""
    return int(getattr(error, "exit_code", ExitCode.error))
