"""Cleaning up after a cancel: `on_cancel` hooks and compensations, once the work is gone and before the end is told.

They run one after the other, in user code's own places, with a token that nobody has cancelled: the cancel that they
belong to can't tear them, only the end of the grace can, or force. One that fails is recorded; the next still runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from desist.calls.dispatch import call_user_code
from desist.cancel.context import set_owner
from desist.cancel.receipt import CleanupResult
from desist.cancel.token import CancelToken, set_current
from desist.exceptions import ConfigurationError, RunCancelled
from desist.run.records.json_values import error_text
from desist.runtime.run_tasks import RunTasks, set_tasks

__all__ = ["CleanupHook", "bind_hook", "check_hook", "run_cleanups"]

log = logging.getLogger("desist.run")


@dataclass(frozen=True, slots=True)
class CleanupHook:
    """One hook that is due."""

    name: str
    kind: str  #: "on_cancel" or "compensate"
    call: Callable[[], Any]
    is_async: bool


def check_hook(function: Any, what: str) -> None:
    """Refuse what can't be called.

    Raises:
        ConfigurationError: names `what`.
    """
    if function is not None and not callable(function):
        raise ConfigurationError(f"{what} must be a function, not {function!r:.80}")


def bind_hook(name: str, kind: str, function: Callable[..., Any], subject: Any, known: dict[str, Any]) -> CleanupHook:
    """Bind a hook to what it is about: its first parameter is `subject`, others are filled in by name from `known`."""
    parameters = inspect.signature(function).parameters
    named = {key: value for key, value in known.items() if key in parameters}
    takes_subject = any(key not in known for key in parameters)
    arguments = (subject,) if takes_subject else ()
    plain = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    is_async = inspect.iscoroutinefunction(plain)
    return CleanupHook(name, kind, lambda: function(*arguments, **named), is_async)


async def run_cleanups(
    cleanups: Sequence[CleanupHook], done: list[CleanupResult], tasks: RunTasks, token: CancelToken
) -> None:
    """Run them, each to its end; note in `done` how it went.

    Parameters:
        tasks: where this coroutine runs; shields inside the hooks count there.
        token: what the hooks see as theirs.
    """
    set_owner(None)
    set_tasks(tasks)
    set_current(token)
    for cleanup in cleanups:
        result = CleanupResult(name=cleanup.name, kind=cleanup.kind)
        done.append(result)
        began = time.monotonic()
        try:
            await call_user_code(cleanup.call, name=cleanup.name, is_async=cleanup.is_async)
            _record_result(result, "done", began)
        except (asyncio.CancelledError, RunCancelled):
            _record_result(result, "stopped", began, "the grace was over")
            raise
        except (Exception, SystemExit) as error:
            _record_result(result, "failed", began, f"{type(error).__name__}: {error_text(error)}")
            whose = token.ids["run_id"] if token.ids else "none"
            words = "run %s: the %s hook %r failed: %s: %s"
            log.warning(words, whose, cleanup.kind, cleanup.name, type(error).__name__, error, extra=token.ids)


def _record_result(result: CleanupResult, status: str, began: float, error: str | None = None) -> None:
    """Note how a hook went, unless it was given up: then the record is out."""
    if result.status == "running":
        result.status, result.error, result.seconds = status, error, time.monotonic() - began
