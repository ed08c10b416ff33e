"""Work that must not be torn: inside `with shield():` a cancel waits; it arrives when the block is left.

The decision isn't delayed: the run is `CANCELLING` at once and starts nothing new. Only the interruption waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from desist.cancel.token import CancelToken, current_token, here, use_token
from desist.cancel.worker import current_owner

__all__ = ["Shieldable", "shield"]


@runtime_checkable
class Shieldable(Protocol):
    """A run, as the shield sees it."""

    def shield_entered(self, who: object, budget: float | None) -> None:
        """`who` (a task, or a call in a worker thread) must not be interrupted, for `budget` seconds at most."""

    def shield_left(self, who: object) -> None:
        """It may be interrupted again; a cancel that came meanwhile is delivered now."""


@contextlib.contextmanager
def shield(budget: float | None = None) -> Iterator[None]:
    """Keep a cancel from interrupting the block; deliver it when the block is left.

    Works in async code (the cancel arrives at the next `await` after the block) and in sync tools and steps
    (`RunCancelled` is raised as the block is left).

    Parameters:
        budget: seconds that the block may take after a cancel before it counts as abandoned. None: the grace of
            the cancel. A forced cancel ends it at once.
    """
    owner = current_owner()
    if not isinstance(owner, Shieldable):
        yield
        return
    outer, call = current_token(), here.call
    who = call if call is not None else asyncio.current_task()
    owner.shield_entered(who, budget)
    if call is not None:
        call.shielded += 1
    try:
        with use_token(CancelToken()):
            yield
    finally:
        if call is not None:
            call.shielded -= 1
        owner.shield_left(who)
    if call is not None:
        outer.check()
