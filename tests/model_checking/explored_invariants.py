"""What must hold in every state, after every step, and at every end. See `explorer`."""

from __future__ import annotations

from explorer_fakes import Ghost, Stepped, Violation

from desist.cancel.run_phase import BodyState, CleanupState
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus

S = RunStatus
STOPPED = (S.cancelling, S.cancelled)


class Invariants:
    """The checks; a world brings the runs."""

    runs: dict[str, Stepped]
    ghost: Ghost
    runs_of: dict[str, tuple[str | None, bool, bool]]

    # -- what must hold

    def check_move(self, run: Stepped, old: RunStatus) -> None:
        new = run.scope.status
        if old.is_final:
            raise Violation(f"{run.run_id} left {old.value} for {new.value}")
        if new is S.cancelled:
            self.check_gone(run)
        if new is S.completed:
            for name, (parent, _, _) in self.runs_of.items():
                child = self.runs[name].scope
                if parent == run.run_id and self.joined(name) and not child.status.is_final:
                    raise Violation(f"{run.run_id} completed with its child {name} {child.status.value}")

    def check_gone(self, run: Stepped) -> None:
        """Cancelled means: all work has stopped, or has been declared abandoned."""
        scope = run.scope
        if (
            scope.body is not BodyState.ended or scope.work or scope.cleanup is CleanupState.running
        ) and not scope.grace_expired:
            raise Violation(f"{run.run_id} is CANCELLED while it works")
        if scope.grace_expired and scope.body is not BodyState.ended and not (run.record and run.record.abandoned):
            raise Violation(f"{run.run_id} is CANCELLED, works on, and that isn't named")

    def joined(self, name: str) -> bool:
        """Whether a child was opened while its parent took children."""
        return self.ghost.opened[name] and not self.ghost.stray[name]

    def check(self) -> None:
        accepted: list[str] = []
        for who, receipt in self.ghost.receipts.items():
            if receipt is None:
                continue
            outcome, name, reason = receipt
            run = self.runs[name]
            stopped = run.scope.status in STOPPED
            if (outcome is not Outcome.finished) is not stopped:
                raise Violation(f"{who} was told {outcome.value} of {name}, which is {run.scope.status.value}")
            if outcome is Outcome.accepted:
                accepted.append(name)
            if stopped and (run.record is None or run.record.reason != reason):
                raise Violation(f"{who} was told the reason {reason!r}, recorded is {run.record!r}")
        for event in self.runs["R"].channel._items:
            if event.is_content and any(self.runs[name].scope.status in STOPPED for name in (event.run_id, "R")):
                raise Violation(f"{event} can be delivered after its run, or the root, was cancelled")
        if len(accepted) != len(set(accepted)):
            raise Violation(f"accepted more than once: {accepted}")
        for name, (parent, bound, skip) in self.runs_of.items():
            stands_with = parent and bound and not skip and self.joined(name)
            if (
                stands_with
                and self.runs[name].scope.status in STOPPED
                and self.runs[parent].scope.status is S.completed
            ):
                raise Violation(f"{parent} is COMPLETED though its bound child {name} was cancelled")

    def over(self) -> bool:
        """Every run that was opened has settled and the reader has heard it or left."""
        opened = [run for name, run in self.runs.items() if self.ghost.opened[name]]
        settled = all(run.settled.is_set and run.scope.status.is_final for run in opened)
        return settled and self.ghost.reader != "reads"

    def stopped(self) -> bool:
        """Every run that was cancelled has settled, and if the root has ended, its reader has heard it or left."""
        if any(run.scope.status is S.cancelling for run in self.runs.values()):
            return False
        return self.ghost.reader != "reads" or not self.runs["R"].scope.status.is_final

    def stopping(self) -> bool:
        """Whether a cancel was accepted."""
        return any(run.scope.status in STOPPED for run in self.runs.values())

    def check_over(self) -> None:
        """An end state: nothing can happen any more."""
        if not self.over():
            stuck = {name: run.scope.status.value for name, run in self.runs.items()}
            raise Violation(f"stuck: {stuck}, the reader {self.ghost.reader}")
        if self.ghost.reader == "end":
            must = {
                name
                for name, run in self.runs.items()
                if self.joined(name) and run.emitter.stream_owner.run.run_id == "R"
            }
            if not must <= set(self.ghost.heard):
                raise Violation(f"terminal events of {self.ghost.heard}, but the runs were {must}")
