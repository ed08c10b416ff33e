"""F7: answers, continuations and cancels of one run at the same moment, over threads; and in every order.

The counts are small here; `DESIST_RACES` raises them.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from database_kinds import open_database
from paused_agents import Payments, paying_agent

from desist import RunStatus
from desist.cancel.reason import CancelReason, Source
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import DesistError
from desist.run.answer import answer, pending
from desist.run.records.requirement import Answer, AnswerOutcome, Requirement
from desist.run.storage.paused_runs import PausedRuns
from desist.run.storage.values import CancelRequest
from desist.testing import Call

RACES = int(os.environ.get("DESIST_RACES", "0"))


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Do all actions at the same moment; return their results, or their errors."""
    results: list[Any] = [None] * len(actions)
    start = threading.Barrier(len(actions))

    def run(number: int, action: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[number] = action()
        except DesistError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize(("kind", "count"), [("memory", 300), ("sqlite", 40), ("postgres", 20)])
def test_answer_against_answer(kind: str, count: int, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    """Of several answers to one requirement, one is accepted; the receipts of all others name it."""
    db = open_database(kind, tmp_path, new_postgres)
    payments = Payments()
    agent = paying_agent(payments, db=db)
    paid = 0
    for _ in range(RACES or count):
        out = agent.run("go")
        requirement_id = out.requirements[0].id

        def give(decision: str, by: str, out: Any = out, requirement_id: str = requirement_id) -> Any:
            return answer(out.run_id, requirement_id, decision, by=by, db=db)

        receipts = at_once(lambda: give("confirm", "ann"), lambda: give("reject", "bob"), lambda: give("confirm", "cy"))
        [won] = [one for one in receipts if one]
        assert all(one.outcome is AnswerOutcome.already_answered and one.by == won.by for one in receipts if not one)
        paid += won.decision == "confirm"
        assert agent.continue_run(run_id=out.run_id).status is RunStatus.completed
    assert len(payments.made) == paid
    db.close()


@pytest.mark.parametrize(("kind", "count"), [("none", 300), ("sqlite", 40), ("postgres", 20)])
def test_continuation_against_cancel(kind: str, count: int, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    """Two continuations and a cancel at once: a true receipt means CANCELLED, and the call is made at most once."""
    db = None if kind == "none" else open_database(kind, tmp_path, new_postgres)
    for _ in range(RACES or count):
        payments = Payments()
        agent = paying_agent(payments, db=db)
        out = agent.run("go")

        def go_on(by: str, out: Any = out, agent: Any = agent) -> Any:
            mine = type(out).from_dict(out.to_dict())
            mine.requirements[0].confirm(by=by)
            return agent.continue_run(mine)

        first, second, receipt = at_once(
            lambda: go_on("ann"), lambda: go_on("bob"), lambda agent=agent, out=out: agent.cancel(out.run_id)
        )
        receipt.wait(30)
        found = agent.get_run_output(out.run_id)
        assert bool(receipt) == (found.status is RunStatus.cancelled), (receipt, found.status)
        assert found.status in (RunStatus.cancelled, RunStatus.completed)
        went_on = [one for one in (first, second) if not isinstance(one, DesistError)]
        assert len(went_on) <= 1 and len(payments.made) <= 1
        assert len(payments.made) == 1 or found.status is RunStatus.cancelled
    if db is not None:
        db.close()


@pytest.mark.parametrize(("kind", "count"), [("sqlite", 20), ("postgres", 20)])
def test_two_processes(kind: str, count: int, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    """Two processes answer and continue the same runs: each run has one winner of each, and one call is made."""
    place, log = (new_postgres() if kind == "postgres" else str(tmp_path / "runs.db")), tmp_path / "paid.txt"
    made: Any = PostgresDb if kind == "postgres" else SqliteDb
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    program = str(Path(__file__).with_name("pause_race_program.py"))
    with closing(made(place)) as db:
        agent = paying_agent(Payments(), [Call("pay", {"amount": 5})], db=db)
        others = [
            subprocess.Popen(
                [sys.executable, program, kind, place, str(log), by],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
            for by in ("ann", "bob")
        ]
        try:
            assert [one.stdout.readline() for one in others if one.stdout] == ["ready\n"] * 2
            for number in range(RACES or count):
                run_id = agent.run("go").run_id
                for one in others:
                    assert one.stdin is not None
                    one.stdin.write(f"{run_id}\n")
                    one.stdin.flush()
                told = [one.stdout.readline().split() for one in others if one.stdout]
                assert sorted(outcome for outcome, _, _ in told) == ["accepted", "already_answered"], told
                assert len({by for _, by, _ in told}) == 1, told
                assert [continued for _, _, continued in told].count("continued") == 1, told
                assert len(log.read_text().splitlines()) == number + 1
                assert agent.get_run_output(run_id).status is RunStatus.completed
        finally:
            for one in others:
                one.communicate(timeout=60)


def test_every_order_in_a_database(tmp_path: Path) -> None:
    """The same in a database: in every order of two answers, a cancel and two continuations one decision counts."""
    db = open_database("sqlite", tmp_path, lambda: "")
    agent = paying_agent(Payments(), [Call("pay", {"amount": 5})], db=db)
    for order in sorted(set(itertools.permutations(["confirm", "reject", "cancel", "take", "take"]))):
        out = agent.run("go")
        receipts, taken, cancelled = {}, 0, None
        for action in order:
            if action == "cancel":
                cancelled = agent.cancel(out.run_id)
            elif action == "take":
                try:
                    taken += bool(db.store.paused.take(out.run_id))  # type: ignore[attr-defined]
                except (DesistError, ValueError):
                    continue
                db.store.paused.put_back(out.run_id)  # type: ignore[attr-defined]
            else:
                receipts[action] = answer(out.run_id, out.requirements[0].id, action, by=action, db=db)
        [found] = pending(out.run_id, db=db)
        status = agent.get_run_output(out.run_id).status
        assert cancelled and status is RunStatus.cancelled, order
        accepted = [action for action, receipt in receipts.items() if receipt]
        assert (found.state, found.by) == (("answered", accepted[0]) if accepted else ("closed", None)), order
        before = order[: order.index("cancel")]
        assert len(accepted) == any(one in before for one in receipts), order
        late = {one.outcome for one in receipts.values() if not one}
        assert late <= {AnswerOutcome.already_answered, AnswerOutcome.run_ended}
        assert taken <= before.count("take")
    db.close()


class _Waiting:
    """A paused run, for the decisions alone."""

    run_id = "r"

    def __init__(self) -> None:
        self.ended = 0

    def apply_answers(self, requirements: Any) -> None:
        pass

    def save_answers(self) -> None:
        pass

    def end_paused(self, request: Any, record: Any) -> None:
        self.ended += 1

    def to_stored(self, status: Any) -> Any:
        return "stored"


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("on_timeout", ["cancel", "skip", "approve"])
def test_every_order(due: bool, on_timeout: str) -> None:
    """In every order of two answers, a cancel, a deadline and two continuations one decision counts, and one take."""
    for order in itertools.permutations(["confirm", "reject", "cancel", "fire", "take", "take"]):
        clock = [0.0]
        runs, run = PausedRuns(lambda clock=clock: clock[0]), _Waiting()  # type: ignore[misc]
        runs.expect(
            run,
            [
                Requirement(
                    requirement_id="q",
                    run_id="r",
                    root_run_id="r",
                    kind="confirmation",
                    deadline=1e9,
                    on_timeout=on_timeout,
                )
            ],
        )
        runs.arrive("r")
        accepted, taken, cancelled, decided = 0, 0, 0, []
        for action in order:
            if action == "fire":
                clock[0] = 2e9 if due else 0.0
                runs.fire_due()
            elif action == "cancel":
                request = CancelRequest(reason=CancelReason(source=Source.user))
                cancelled += runs.cancel("r", request) is not None
            elif action == "take":
                try:
                    taken += runs.take("r")[0] == "stored"  # type: ignore[comparison-overlap]
                except (DesistError, ValueError):
                    pass
            else:
                receipt = runs.answer("r", "q", Answer(decision=action, by=action))
                accepted += bool(receipt)
                decided += [receipt]
        [found] = runs.requirements("r")
        assert accepted <= 1 and taken <= 1 and run.ended <= 1
        assert (found.state == "answered") == (accepted == 1)
        for receipt in decided:
            if receipt.outcome is AnswerOutcome.already_answered:
                assert receipt.by == found.by
            if receipt.outcome is AnswerOutcome.run_ended:
                assert run.ended or cancelled
        if taken:
            assert found.answer is not None and not run.ended
