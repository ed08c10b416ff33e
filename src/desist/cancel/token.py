"""The cooperative half of a cancel: a thread-safe flag with a tree, callbacks and interruptible waits.

A token says *that* work must stop; the run decides *whether*. From the moment of that decision the tokens of the run
say so, because they look at it; waking and calling who waits for it comes later. `cancel()` does both: `mark()` sets
the flags of a token and of all below it and calls nothing, `deliver()` wakes and calls, children last, each isolated,
so that one which fails can't keep the others from being called. Nothing here knows of runs, loops or models.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from desist.cancel.context import current_call
from desist.cancel.reason import CancelReason, Source
from desist.exceptions import RunCancelled

__all__ = ["CancelToken", "check_cancelled", "current_token", "deliver", "deliver_urgent", "on_cancel"]
__all__ += ["sleep", "use_token"]

log = logging.getLogger("desist.cancel")
_current: contextvars.ContextVar[CancelToken | None] = contextvars.ContextVar("desist_token", default=None)
_ids = itertools.count()


class Decided(Protocol):
    """What a token looks at: a run, as far as it is decided about."""

    reason: CancelReason | None


class CancelToken:
    """Tells work that it must stop. Safe to use from any thread.

    A child is cancelled with its parent; cancelling a child leaves the parent alone.
    """

    __slots__ = ("__weakref__", "_bell", "_callbacks", "_children", "_lock", "_reason", "_urgent", "decided", "ids")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._urgent: dict[int, Callable[[], object]] | None = None  #: those that are called before all others
        self._children: weakref.WeakSet[CancelToken] | None = None
        self._bell: threading.Event | None = None
        self._reason: CancelReason | None = None
        self.decided: Decided | None = None  #: its run: once that has a reason, so has this
        self.ids: Mapping[str, str] | None = None  #: of its run, for the log

    @property
    def cancelled(self) -> bool:
        """Whether the work must stop."""
        return self.reason is not None

    @property
    def reason(self) -> CancelReason | None:
        """Why, or None while nobody asked."""
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
        """Cancel this token and its children; return False if it was cancelled already. Never raises."""
        marked = self.mark(reason or CancelReason(source=Source.user))
        deliver(marked or ())
        return marked is not None

    def mark(self, reason: CancelReason) -> list[CancelToken] | None:
        """Set the flag of this token and of all below it; return those to be delivered, or None if it was set before.

        Calls nothing: see `deliver`.
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
                if token._callbacks or token._urgent or token._bell is not None:
                    marked.append(token)  # else there is nobody to call: who comes now sees the flag
        return marked

    def _take(self, urgent: bool) -> Iterable[Callable[[], object]]:
        with self._lock:
            if urgent:
                taken, self._urgent = self._urgent or {}, None
            else:
                taken, self._callbacks = self._callbacks, {}
        return taken.values()

    def check(self) -> None:
        """Raise `RunCancelled` if the work must stop. Costs some 50 ns."""
        if self._reason is not None or (self.decided is not None and self.decided.reason is not None):
            call = current_call.call
            if call is not None:
                call.in_token_wait = True
            raise RunCancelled(self.reason)

    def on_cancel(self, callback: Callable[[], object], *, urgent: bool = False) -> Callable[[], None]:
        """Call `callback()` once on cancel, in the thread that interrupts; at once if that has happened.

        It must be quick and must not block: close a socket, set a flag, kill a child. Its errors are logged.

        Parameters:
            callback: what to call.
            urgent: before all that isn't: what costs money closes first.

        Returns:
            A function that takes the callback back.
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
        self._isolated(callback)
        return lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until cancelled, or for `timeout` seconds; return whether it was cancelled."""
        _refuse_on_loop()
        with self._lock:
            if self._bell is None:
                self._bell = threading.Event()
            if self.reason is not None:
                self._bell.set()
            bell = self._bell
        call = current_call.call
        if call is None:
            return bell.wait(timeout)
        call.in_token_wait = True  # it will hear of a cancel by itself: nobody need raise one in it
        told = bell.wait(timeout)
        call.in_token_wait = told
        return told

    def sleep(self, seconds: float) -> None:
        """Sleep like `time.sleep`, but end at once with `RunCancelled` on cancel."""
        if self.wait(seconds):
            raise RunCancelled(self.reason)

    def _isolated(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except (Exception, RunCancelled, asyncio.CancelledError):
            whose = self.ids["run_id"] if self.ids else "none"
            words = "an on_cancel callback of run %s failed: %r"
            log.warning(words, whose, callback, exc_info=True, extra=self.ids)

    def _remove_callback(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
            if self._urgent is not None:
                self._urgent.pop(key, None)

    def __repr__(self) -> str:
        return f"<CancelToken {'cancelled: ' + str(self.reason) if self.cancelled else 'live'}>"


def deliver(marked: Iterable[CancelToken]) -> None:
    """Wake and call who wants to know of marked tokens: all that is urgent, then the others. A second time, nobody."""
    for token in marked:
        deliver_urgent(token)
    for token in marked:
        if token._bell is not None:
            token._bell.set()
        for callback in token._take(urgent=False):
            token._isolated(callback)


def deliver_urgent(token: CancelToken) -> None:
    """Call what is urgent about a marked token."""
    for callback in token._take(urgent=True):
        token._isolated(callback)


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("token.sleep() and token.wait() would block this event loop: await asyncio.sleep() instead")


def current_token() -> CancelToken:
    """Return the token of the run that this code works for; outside of any run, one that nobody cancels."""
    return _current.get() or CancelToken()


@contextlib.contextmanager
def use_token(token: CancelToken) -> Iterator[CancelToken]:
    """Make `token` the current one inside the block."""
    mark = _current.set(token)
    try:
        yield token
    finally:
        _current.reset(mark)


def set_current(token: CancelToken) -> contextvars.Token[Any]:
    """Make `token` the current one for the rest of this context."""
    return _current.set(token)


def check_cancelled() -> None:
    """Raise `RunCancelled` if the run that this code works for must stop."""
    current_token().check()


def sleep(seconds: float) -> None:
    """Sleep in a sync tool, ending at once with `RunCancelled` when the run is cancelled."""
    current_token().sleep(seconds)


def on_cancel(callback: Callable[[], object]) -> Callable[[], None]:
    """Call `callback()` once when the current run is cancelled; return a function that takes it back."""
    return current_token().on_cancel(callback)
