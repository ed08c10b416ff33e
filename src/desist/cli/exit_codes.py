"""The exit codes of all commands, and the errors that have one of their own. Documented in `docs/operations.md`."""

from __future__ import annotations

from enum import IntEnum

from desist.exceptions import DesistError

__all__ = ["ExitCode", "NothingFound", "Unreachable", "code_of"]


class ExitCode(IntEnum):
    """What a command says to whoever started it."""

    ok = 0
    error = 1
    usage = 2  #: typer's own: an option or value that can't be used
    nothing = 3  #: there is no such run, or none fits
    otherwise = 4  #: the run has ended, and not as it was asked: it was too late to cancel it, or somebody stopped it
    waiting = 5  #: the time that was given is over, and it hasn't settled
    hung_up = 129  #: the terminal is gone
    interrupted = 130  #: Ctrl-C
    terminated = 143  #: SIGTERM


class NothingFound(DesistError):
    """There is no such run."""

    exit_code = ExitCode.nothing


class Unreachable(DesistError):
    """A server doesn't answer: it may be there again in a moment."""


def code_of(error: DesistError) -> int:
    """Return the exit code of an error."""
    return int(getattr(error, "exit_code", ExitCode.error))
