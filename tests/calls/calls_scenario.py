"""A run whose one step or tool is inside a function of the user's, brought there and stopped from another thread."""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from hanging_server import PATIENCE

from desist import Agent, Step, Workflow
from desist.calls.base import InterruptMode
from desist.cancel import CancelReceipt, RunStatus
from desist.runtime.stack_sampling import sample_stack
from desist.testing import Call, ScriptedModel
from desist.tools import Function

Place = Literal["step", "tool"]
Face = Literal["run", "arun"]


#: The number of the system call in which a thread waits for the GIL or a lock.
FUTEX = {"x86_64": "202", "aarch64": "98"}.get(platform.machine(), "")


class Scene:
    """One run. `work` is called in it, with this scene as its argument if it takes one."""

    def __init__(
        self,
        work: Callable[[], Any],
        *,
        place: Place = "step",
        face: Face = "run",
        grace: float = PATIENCE,
        interrupt: InterruptMode = "auto",
    ) -> None:
        self.run_id = uuid.uuid4().hex
        self.entered, self.left, self.over = threading.Event(), threading.Event(), threading.Event()
        self.raised: BaseException | None = None
        self.never: list[str] = []
        self.thread, self.native_id = 0, 0  #: where the work is done
        self.output: Any = None
        self.error: BaseException | None = None
        self._work, self._face = work, face
        self.workflow = Workflow(
            "Scene",
            grace=grace,
            steps=[self._step(place, interrupt), Step("after", executor=lambda _: self.never.append("ran"))],
        )

    def _step(self, place: Place, interrupt: InterruptMode) -> Step:
        if place == "step":
            return Step("work", executor=lambda _: self._do(), max_retries=0, interrupt=interrupt)
        tool = Function(name="work", description="Work.", entrypoint=self._do, interrupt=interrupt)
        agent = Agent(ScriptedModel([Call("work"), "never said"]), name="Worker", tools=[tool])
        return Step("work", agent=agent, max_retries=0)

    def _do(self) -> str:
        self.thread, self.native_id = threading.get_ident(), threading.get_native_id()
        self.entered.set()
        try:
            self._work()
        except BaseException as error:
            self.raised = error.with_traceback(None)  # keep no frames: they hold sockets
            raise
        finally:
            self.left.set()
        return "done"

    def start(self) -> Scene:
        """Start it in a thread of its own, and wait until the work is entered."""
        threading.Thread(target=self._go, name="scene", daemon=True).start()
        assert self.entered.wait(PATIENCE), self.error
        return self

    def _go(self) -> None:
        try:
            if self._face == "run":
                self.output = self.workflow.run("go", run_id=self.run_id)
            else:
                self.output = asyncio.run(self.workflow.arun("go", run_id=self.run_id))
        except BaseException as error:
            self.error = error
        self.over.set()

    def wait_blocked(self) -> Scene:
        """Wait until the work's thread waits in a system call. Nobody tells that, so this looks again and again.

        An interrupt may come at any moment. But one that comes in the middle of a library leaves what the garbage
        collector warns of, and tests hear warnings.
        """
        deadline, seen, times = time.monotonic() + PATIENCE, "", 0
        while times < 3:  # the same call, with the same stack
            assert time.monotonic() < deadline, "the work doesn't wait for anything"
            now = self._blocked_in()
            times = times + 1 if now and now == seen else 0
            seen = now
            time.sleep(0.002)
        return self

    def _blocked_in(self) -> str:
        """Return the system call in which the work's thread waits, as text; "" if it runs, or waits for the GIL."""
        with open(f"/proc/self/task/{self.native_id}/syscall") as file:
            line = file.read()
        word = line.split()[0]
        stack = sample_stack(self.thread)
        if word in ("running", "-1", FUTEX) or not stack or stack[0][0].co_name == "_execute_child":
            return ""
        return line

    def cancel(self, **how: Any) -> CancelReceipt:
        """Cancel it, without waiting."""
        return self.workflow.cancel(self.run_id, **{"reason": "enough", "by": "me", **how})

    def stop(self, **how: Any) -> CancelReceipt:
        """Cancel it and wait until it has settled and its caller has it back; check what holds for every cancel."""
        receipt = self.cancel(**how)
        self.settle(receipt)
        return receipt

    def settle(self, receipt: CancelReceipt) -> None:
        """Wait for the end of a cancelled run; check what holds for every cancel."""
        assert receipt.wait(PATIENCE), f"not settled: {receipt}"
        assert self.over.wait(PATIENCE)
        assert self.error is None, self.error
        assert receipt and receipt.status is RunStatus.cancelled
        assert self.output.status is RunStatus.cancelled
        assert (self.output.cancel.reason, self.output.cancel.by) == ("enough", "me")
        assert self.never == []


class LateEnds(logging.Handler):
    """Hears of abandoned work that has ended: the log says so."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._heard = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        if "its result is dropped" in record.getMessage():
            self._heard.release()

    def wait(self) -> None:
        """Wait until one call that was given up has ended."""
        assert self._heard.acquire(timeout=PATIENCE), "the log doesn't say that abandoned work has ended"
