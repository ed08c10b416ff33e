"""Continuing a paused run: give the answers to the store, take the run, open it again under the same id.

Of several callers, in any thread or process, one takes the run. The others get `AnswerRefusedError`, which names who
has answered. A continuation that can't be started puts the run back: it is paused, and its answers count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from desist.exceptions import AnswerRefusedError, ConfigurationError
from desist.run.execution.run import Run
from desist.run.records.requirement import Answer, AnswerOutcome, Requirement, check_answer
from desist.run.storage.pause_store import PauseStore, pause_store
from desist.run.storage.paused_runs import open_message, paused_runs
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunStore
from desist.run.storage.values import StoredRun

__all__ = ["Answerable", "PauseContinuation", "TakenRun"]

log = logging.getLogger("desist.run")


class Answerable(Protocol):
    """An agent or workflow whose paused runs are continued."""

    @property
    def store(self) -> RunStore:
        """Where runs are stored."""

    def open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        """Register a run that continues an earlier one."""

    def check_answer(self, requirement: Requirement, answer: Answer) -> None:
        """Raise `ConfigurationError` if an answer can't be used."""


@dataclass(frozen=True, slots=True)
class TakenRun:
    """A paused run that this caller has taken, with the answers."""

    stored: StoredRun
    requirements: Sequence[Requirement]


class PauseContinuation:
    """Continues the paused runs of one agent or workflow."""

    def __init__(self, component: Answerable) -> None:
        self._component = component
        self._pauses: PauseStore = pause_store(component.store)

    def is_paused(self, run_id: str) -> bool:
        """Return whether a run is paused, or was, as far as the store knows. May block."""
        return bool(self._pauses.requirements(run_id)) or paused_runs.knows(run_id)

    def take(self, run_id: str, answers: Mapping[str, Answer]) -> TakenRun:
        """Give these answers, by the ids of the requirements, and take the run. May block.

        Raises:
            ConfigurationError: there is no such run, an answer can't be used, or requirements stay open: nothing is
                stored.
            AnswerRefusedError: another answer, a deadline or the end of the run was first.
        """
        known = {one.requirement_id: one for one in self._pauses.requirements(run_id)}
        for requirement_id, answer in answers.items():
            found = known.get(requirement_id)
            if found is None:
                raise ConfigurationError(
                    f"run {run_id} has no requirement {requirement_id!r}; it has: {', '.join(known) or 'none'}"
                )
            if found.is_open:
                check_answer(found, answer)
                self._component.check_answer(found, answer)
        if message := open_message(run_id, [one for key, one in known.items() if key not in answers]):
            raise ConfigurationError(message)
        for requirement_id, answer in answers.items():
            self._give(run_id, requirement_id, answer)
        stored, requirements = self._pauses.take(run_id)
        return TakenRun(stored, requirements)

    def _give(self, run_id: str, requirement_id: str, answer: Answer) -> None:
        receipt = self._pauses.answer(run_id, requirement_id, answer)
        if receipt:
            return
        if receipt.outcome is AnswerOutcome.already_answered:
            found = next(one for one in self._pauses.requirements(run_id) if one.requirement_id == requirement_id)
            if found.answer == answer.to_dict() and found.by == answer.by:
                return  # the same answer, for example of a call that failed afterwards: `take` decides
        by = f" by {receipt.by}" if receipt.by else ""
        raise AnswerRefusedError(
            f"run {run_id} can't be continued with this answer: requirement {requirement_id} is"
            f" {receipt.outcome.value.replace('_', ' ')}{by}",
            receipt,
        )

    def open(self, taken: TakenRun, options: dict[str, Any], **how: Any) -> Run:
        """Register the run again. If that fails, the run is put back."""
        run_id = taken.stored.run_id
        try:
            opened = {**options, "run_id": run_id, "paused": taken}
            run = self._component.open_continuation(taken.stored.output, opened, **how)
        except BaseException:
            self.put_back(run_id)
            raise
        self._pauses.hand_over(run)
        paused_runs.forget_store(run_id)
        return run

    def put_back(self, run_id: str) -> None:
        """Undo `take`. If the store fails, the run is left to the rules for runs of dead processes."""
        try:
            self._pauses.put_back(run_id)
        except Exception as error:
            log.error("run %s could not be put back: %s", run_id, error, extra={"run_id": run_id})

    @property
    def blocking(self) -> bool:
        """Whether `take` waits for a database."""
        return shared_store(self._component.store) is not None or self._component.store.blocking
