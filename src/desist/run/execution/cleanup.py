"""Cleanup after a cancel: `on_cancel` hooks and compensations, after all work has ended and before the end is stored.

Hooks run one after the other: an async hook on the loop of the run, a sync hook in a thread. Their token is not
cancelled, so the cancel that they clean up after does not interrupt them; only the end of the grace or a forced cancel
does. The failure of a hook is recorded, and the next hook runs.
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
from desist.calls.started.started_work import set_started_work
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
    """A hook with its arguments bound."""

    name: str
    kind: str  #: "on_cancel" or "compensate"
    call: Callable[[], Any]
    is_async: bool


def check_hook(function: Any, what: str) -> None:
    """Check that a hook can be called.

    Raises:
        ConfigurationError: the hook is not a function; the message names `what`.
    """
    if function is not None and not callable(function):
        raise ConfigurationError(f"{what} must be a function, not {function!r:.80}")


def bind_hook(name: str, kind: str, function: Callable[..., Any], subject: Any, known: dict[str, Any]) -> CleanupHook:
    """Bind the arguments of a hook: parameters named in `known` get these values, any other gets `subject`."""
    parameters = inspect.signature(function).parameters
    named = {key: value for key, value in known.items() if key in parameters}
    takes_subject = any(key not in known for key in parameters)
    arguments = (subject,) if takes_subject else ()
    plain = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    is_async = inspect.iscoroutinefunction(plain)
    return CleanupHook(name, kind, lambda: function(*arguments, **named), is_async)


async def run_cleanups(
    hooks: Sequence[CleanupHook], done: list[CleanupResult], tasks: RunTasks, token: CancelToken
) -> None:
    """Run hooks one after the other; append the result of each to `done` when it starts.

    Parameters:
        tasks: the tasks of which this coroutine is one; shields inside hooks apply to them.
        token: the current token of the hooks.
    """
    set_owner(None)
    set_started_work(None)
    set_tasks(tasks)
    set_current(token)
    for hook in hooks:
        result = CleanupResult(name=hook.name, kind=hook.kind)
        done.append(result)
        began = time.monotonic()
        try:
            await call_user_code(hook.call, name=hook.name, is_async=hook.is_async)
            _record_result(result, "done", began)
        except (asyncio.CancelledError, RunCancelled):
            _record_result(result, "stopped", began, "the grace was over")
            raise
        except (Exception, SystemExit) as error:
            _record_result(result, "failed", began, f"{type(error).__name__}: {error_text(error)}")
            run_id = token.ids["run_id"] if token.ids else "none"
            message = "run %s: the %s hook %r failed: %s: %s"
            words = error_text(error)
            log.warning(message, run_id, hook.kind, hook.name, type(error).__name__, words, extra=token.ids)


def _record_result(result: CleanupResult, status: str, began: float, error: str | None = None) -> None:
    """Record the result of a hook, unless the hook was abandoned: then its result is stored already."""
    if result.status == "running":
        result.status, result.error, result.seconds = status, error, time.monotonic() - began
