"""The one place where user code is called: tools, function steps, hooks.

Sync code runs in a worker thread. Async code runs on a user loop in a sync run, and on the caller's loop in an async
run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from desist.calls.base import InterruptMode, current_call_owner
from desist.calls.inline_call import call_inline
from desist.calls.loop_call import LoopCall, submit_to_user_loop
from desist.calls.thread_pool import run_call, run_in_thread
from desist.cancel.token import current_token, use_token
from desist.runtime.background_loop import background_loop

__all__ = ["call_user_code"]


async def call_user_code(
    call: Callable[[], Any], *, name: str, is_async: bool, interrupt: InterruptMode = "auto"
) -> Any:
    """Call user code where it belongs and await the result on this loop.

    Parameters:
        call: the function to call; it sees the context variables of this task. If `is_async`, it returns an awaitable.
        name: the name of the call in receipts and logs.
        is_async: whether the result must be awaited.
        interrupt: how a cancel may interrupt the call.

    Raises:
        RunCancelled: the run was cancelled before the call could start.
        TooManyAbandonedError: too many threads still run abandoned calls.
    """
    if not is_async:
        return await run_in_thread(call, name=name, interrupt=interrupt)
    if not background_loop.is_running_here():
        return await call_inline(call, name, interrupt)
    token = current_token().child()
    with use_token(token):
        work = LoopCall(call, name, current_call_owner(), token, interrupt)
    return await run_call(work, submit_to_user_loop)
