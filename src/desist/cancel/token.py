"""The cooperative half of a cancel: a thread-safe flag with child tokens, callbacks and interruptible waits.

A token tells code *that* it must stop; the run decides *whether*. The tokens of a run read its decision, so they are
cancelled from the moment of the decision on; waking threads and calling callbacks comes later, in two steps: `mark`
sets the flags of a token and of all tokens below it and calls nothing, `deliver` wakes and calls, parents first. An
error in a callback is logged and does not stop the others. `cancel` does both steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from desist.cancel.context import current_call
from desist.cancel.reason import CancelReason, Source
from desist.exceptions import RunCancelled

__all__ = ["CancelToken", "check_cancelled", "current_token", "deliver", "deliver_urgent", "on_cancel"]
__all__ += ["sleep", "token_variable", "use_token"]

log = logging.getLogger("desist.cancel")
token_variable: contextvars.ContextVar[CancelToken | None] = contextvars.ContextVar("desist_token", default=None)
_ids = itertools.count()


class Decided(Protocol):
    """The decision about a run, which its tokens read."""

    reason: CancelReason | None


class CancelToken:
    """A flag that tells code to stop. Safe to use from any thread.

    A child is cancelled with its parent; cancelling a child doesn't cancel the parent.

    Each token has a lock of its own. It protects the registration of callbacks and children against `mark`: a callback
    or child is registered before the flag is set, and then `mark` and `deliver` find it, or the registration sees the
    flag and calls or cancels at once. No callback is called with a lock held, and no two locks are held at once.
    """

    __slots__ = ("__weakref__", "_callbacks", "_children", "_event", "_lock", "_reason", "_urgent", "decided", "ids")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._urgent: dict[int, Callable[[], object]] | None = None  #: called before all others
        self._children: weakref.WeakSet[CancelToken] | None = None
        self._event: threading.Event | None = None
        self._reason: CancelReason | None = None
        self.decided: Decided | None = None  #: the decision about its run; once that has a reason, so has this
        self.ids: Mapping[str, str] | None = None  #: the ids of its run, for log records

    @property
    def cancelled(self) -> bool:
        """Whether the code must stop."""
        return self.reason is not None

    @property
    def reason(self) -> CancelReason | None:
        """The reason of the cancel, or None. Set from the decision on, before `deliver` calls the callbacks."""
        if self._reason is not None or self.decided is None:
            return self._reason
        return self.decided.reason

    def child(self) -> CancelToken:
        """Return a token that is cancelled with this one."""
        token = CancelToken()
        token.ids, token.decided = self.ids, self.decided
        with self._lock:
            reason = self.reason
            if reason is None:
                if self._children is None:
                    self._children = weakref.WeakSet()
                self._children.add(token)
                return token
        token.cancel(reason)
        return token

    def cancel(self, reason: CancelReason | None = None) -> bool:
        """Cancel this token and its children; return False if that was done before. Never raises."""
        marked = self.mark(reason or CancelReason(source=Source.user))
        deliver(marked or ())
        return marked is not None

    def mark(self, reason: CancelReason) -> list[CancelToken] | None:
        """Set the flags of this token and of all tokens below it, and call nothing.

        From any thread, also with the lock of a run held. Of two threads exactly one gets the list: the token's lock
        decides.

        Returns:
            The tokens to pass to `deliver`, parents first; None if the flag of this token was set before.
        """
        if self._reason is not None:
            return None
        marked: list[CancelToken] = []
        open_, first = [self], True
        while open_:
            token = open_.pop()
            with token._lock:
                if token._reason is not None:
                    if first:  # another thread was first
                        return None
                    continue
                token._reason, first = reason, False
                if token._children is not None:
                    open_ += token._children
                    token._children = None
                if token._callbacks or token._urgent or token._event is not None:
                    marked.append(token)  # else there is nothing to call; a later registration sees the flag
        return marked

    def _take(self, urgent: bool) -> Iterable[Callable[[], object]]:
        """Remove and return the callbacks: each is called once, however often the token is delivered."""
        with self._lock:
            if urgent:
                taken, self._urgent = self._urgent or {}, None
            else:
                taken, self._callbacks = self._callbacks, {}
        return taken.values()

    def check(self) -> None:
        """Raise `RunCancelled` if the code must stop. Takes some 50 ns."""
        if self._reason is not None or (self.decided is not None and self.decided.reason is not None):
            call = current_call.call
            if call is not None:
                call.in_token_wait = True  # the call knows of its cancel: no exception need be sent into its thread
            raise RunCancelled(self.reason)

    def on_cancel(self, callback: Callable[[], object], *, urgent: bool = False) -> Callable[[], None]:
        """Call `callback()` once on cancel, in the thread of the canceller; here and now if that has happened.

        The callback must be quick and must not block: close a socket, set a flag, kill a child process. Its errors are
        logged.

        Parameters:
            callback: the function to call.
            urgent: whether to call it before all callbacks that aren't: connections that cost money are closed first.

        Returns:
            A function that removes the callback. The callback may be running in another thread when that returns.
        """
        with self._lock:
            if self.reason is None:
                key = next(_ids)
                if urgent:
                    self._urgent = self._urgent or {}
                    self._urgent[key] = callback
                else:
                    self._callbacks[key] = callback
                return lambda: self._remove_callback(key)
        self._call_isolated(callback)
        return lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until cancelled, or for `timeout` seconds; return whether it was cancelled."""
        _refuse_on_loop()
        with self._lock:
            if self._event is None:
                self._event = threading.Event()
            if self.reason is not None:
                self._event.set()
            event = self._event
        call = current_call.call
        if call is None:
            return event.wait(timeout)
        # Before the wait: a canceller that sees this sends no exception, and the event wakes the thread. Reset after a
        # timeout only: a call that was woken knows of its cancel.
        call.in_token_wait = True
        cancelled = event.wait(timeout)
        call.in_token_wait = cancelled
        return cancelled

    def sleep(self, seconds: float) -> None:
        """Sleep like `time.sleep`, but raise `RunCancelled` at once on cancel."""
        if self.wait(seconds):
            raise RunCancelled(self.reason)

    def _call_isolated(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except (Exception, RunCancelled, asyncio.CancelledError):
            run_id = self.ids["run_id"] if self.ids else "none"
            message = "an on_cancel callback of run %s failed: %r"
            log.warning(message, run_id, callback, exc_info=True, extra=self.ids)

    def _remove_callback(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
            if self._urgent is not None:
                self._urgent.pop(key, None)

    def __repr__(self) -> str:
        return f"<CancelToken {'cancelled: ' + str(self.reason) if self.cancelled else 'live'}>"


def deliver(marked: Collection[CancelToken]) -> None:
    """Wake the waiting threads and call the callbacks of marked tokens: the urgent ones of all tokens first.

    In the canceller's thread or a helper thread, without any lock. A second call finds no callbacks.
    """
    for token in marked:
        deliver_urgent(token)
    for token in marked:
        if token._event is not None:
            token._event.set()
        for callback in token._take(urgent=False):
            token._call_isolated(callback)


def deliver_urgent(token: CancelToken) -> None:
    """Call the urgent callbacks of a marked token. A second call finds none."""
    for callback in token._take(urgent=True):
        token._call_isolated(callback)


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("token.sleep() and token.wait() would block this event loop: use await asyncio.sleep() instead")


def current_token() -> CancelToken:
    """Return the token of the run that this code works for; outside of any run, a new one that is never cancelled."""
    return token_variable.get() or CancelToken()


@contextlib.contextmanager
def use_token(token: CancelToken) -> Iterator[CancelToken]:
    """Make `token` the current one inside the block."""
    previous = token_variable.set(token)
    try:
        yield token
    finally:
        token_variable.reset(previous)


def set_current(token: CancelToken) -> contextvars.Token[Any]:
    """Make `token` the current one for the rest of this context."""
    return token_variable.set(token)


def check_cancelled() -> None:
    """Raise `RunCancelled` if the run that this code works for must stop."""
    current_token().check()


def sleep(seconds: float) -> None:
    """Sleep in a sync tool; raise `RunCancelled` at once when the run is cancelled."""
    current_token().sleep(seconds)


def on_cancel(callback: Callable[[], object]) -> Callable[[], None]:
    """Call `callback()` once when the current run is cancelled; return a function that removes the callback."""
    return current_token().on_cancel(callback)
