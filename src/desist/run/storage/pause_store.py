"""`PauseStore`: who decides about the answers to a paused run: a shared database, or this process alone."""

from __future__ import annotations

from typing import Any, Protocol, cast

from desist.cancel.registry import RunHandle
from desist.run.records.requirement import Answer, AnswerReceipt, Requirement
from desist.run.storage.paused_runs import paused_runs
from desist.run.storage.shared_store import shared_store
from desist.run.storage.values import StoredRun

__all__ = ["PauseStore", "pause_store"]


class PauseStore(Protocol):
    """The paused runs of one place. All methods may be called from any thread, and block for a database."""

    def requirements(self, run_id: str) -> list[Requirement]:
        """Return the requirements of a run that is or was paused, open or not."""

    def answer(self, run_id: str, requirement_id: str, answer: Answer) -> AnswerReceipt:
        """Answer a requirement, once: one conditional update.

        Raises:
            ConfigurationError: the answer does not fit the requirement; nothing is stored.
            StoreError: the answer is not confirmed as stored.
        """

    def take(self, run_id: str) -> tuple[StoredRun, list[Requirement]]:
        """Take a run whose requirements are all resolved, to continue it in this process. One caller gets it.

        Raises:
            ConfigurationError: there is no such run, or requirements are open.
            AnswerRefusedError: the run was continued already, or has ended.
        """

    def put_back(self, run_id: str) -> None:
        """Undo `take`: the continuation could not be started."""

    def hand_over(self, run: RunHandle) -> None:
        """Leave a run that was taken to its new `Run`, which is live now."""


def pause_store(store: object) -> PauseStore:
    """Return who decides about the paused runs of a store."""
    shared: Any = shared_store(store)
    return cast(PauseStore, shared.paused) if shared is not None else paused_runs
