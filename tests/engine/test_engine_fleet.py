"""C7, C9 for submitted runs: queued, driven, cancelled, crashed and handed over, among workers that are processes."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine_process import WorkerProcess

from desist import RunStatus, Step, Workflow
from desist.cancel.scope import Outcome
from desist.run.cancel import cancel
from desist.run.records.message import CANCELLED_RESULT
from desist.testing import LoopbackProvider, Reply

S = RunStatus
Start = Callable[..., WorkerProcess]


def known(name: str, db: Any, *steps: str, on_crash: Any = "mark") -> Workflow:
    """The same workflow as the workers have, for whoever submits: what its steps do isn't needed."""
    return Workflow(name, steps=[Step(step, executor=lambda given: "here") for step in steps], db=db, on_crash=on_crash)


def kept(db: Any) -> Workflow:
    return known("Kept", db, "one", "two", "three", on_crash="resume")


def first_step_is_stored(db: Any, run_id: str) -> None:
    while not db.get_run(run_id).step_results:
        db.flush()


def test_runs_are_driven_once(worker: Start, db: Any) -> None:
    """What is submitted before and after its workers start is driven by one of them, once; the output comes back."""
    simple = known("Simple", db, "quick")
    before = [simple.submit({"number": number}) for number in range(10)]
    workers = [worker("simple"), worker("simple")]
    after = [simple.submit({"number": number}) for number in range(10)]
    for number, submitted in enumerate(before + after):
        output = submitted.result(40)
        assert (output.status, output.content) == (S.completed, {"number": number % 10})
        assert submitted.status is S.completed
    for one in workers:
        one.wait_ready().leave()
    assert [one.ended() for one in workers] == [0, 0]
    ran = [said["ran"] for one in workers for said in one.heard if "ran" in said]
    assert sorted(ran) == sorted(submitted.run_id for submitted in before + after)


def test_cancelled_while_it_waits(worker: Start, db: Any) -> None:
    """A cancel of a run that no worker has settles at once; the run never begins, though it was sent already."""
    marked = known("Marked", db, "one", "two", "three")
    early = marked.submit("early")
    receipt = early.cancel(reason="too early", by="ann")
    assert (receipt.outcome, receipt.wait(30), receipt.status) == (Outcome.accepted, True, S.cancelled)
    assert (early.status, early.result(30).cancel.by) == (S.cancelled, "ann")
    one = worker("marked", concurrency=1)
    first = marked.submit("go")
    one.hear("at", first.run_id)
    second, third = marked.submit("go"), marked.submit("go")
    late = cancel(second.run_id, reason="changed my mind", db=db)
    assert late.outcome is Outcome.accepted and late.wait(30) and not first.wait(0)
    one.tell("open", first.run_id)
    one.hear("at", third.run_id)
    one.tell("open", third.run_id)
    assert third.result(40).status is first.result(40).status is S.completed
    assert one.steps_of(early.run_id) == one.steps_of(second.run_id) == []
    assert second.result(1).cancel.reason == "changed my mind"


def test_cancelled_while_it_runs(worker: Start, db: Any) -> None:
    """A cancel from another process stops what a worker does: the connection to the provider is closed."""
    with LoopbackProvider(Reply(tokens=100_000, token_interval=0.01), process=True) as provider:
        worker("told", env={"DESIST_TEST_URL": provider.base_url})
        submitted = known("Told", db, "A").submit("a story")
        exchange = provider.wait_request(1, 40)
        receipt = submitted.cancel(reason="enough")
        assert receipt.outcome is Outcome.accepted and receipt.wait(40)
        exchange.wait_closed(40)
    output = submitted.result(40)
    assert (output.status, output.cancel.reason) == (S.cancelled, "enough")
    assert receipt.upstream_closed == 1


def test_killed_and_gone_on_elsewhere(worker: Start, db: Any) -> None:
    """kill -9: a peer goes on with the run within seconds, after the last step that had finished; nobody has to ask."""
    one = worker("kept")
    submitted = kept(db).submit("go")
    one.hear("at", submitted.run_id)
    first_step_is_stored(db, submitted.run_id)
    two = worker("kept").wait_ready()
    one.kill()
    two.hear("at", submitted.run_id)
    two.tell("open", submitted.run_id)
    output = submitted.result(40)
    assert output.status is S.completed and output.run_id == submitted.run_id
    assert (one.steps_of(submitted.run_id), two.steps_of(submitted.run_id, 2)) == (["one", "two"], ["two", "three"])
    assert [step.content.split()[-1] for step in output.step_results] == [
        str(one.process.pid),
        str(two.process.pid),
        str(two.process.pid),
    ]


def test_killed_and_marked(worker: Start, db: Any) -> None:
    """kill -9: a run that isn't to be resumed is given an end by a peer, and what waits is driven by it."""
    one = worker("marked", concurrency=1)
    marked = known("Marked", db, "one", "two", "three")
    running, waiting = marked.submit("go"), marked.submit("go")
    one.hear("at", running.run_id)
    two = worker("marked").wait_ready()
    two.hear("at", waiting.run_id)
    one.kill()
    output = running.result(40)
    assert output.status is S.error and "ended without storing" in output.error
    two.tell("open", waiting.run_id)
    assert waiting.result(40).status is S.completed
    assert two.steps_of(running.run_id) == []


def test_killed_and_cancelled_while_down(worker: Start, db: Any) -> None:
    """A request that comes while no worker is there wins over the restart: the run never goes on."""
    one = worker("kept")
    submitted = kept(db).submit("go")
    one.hear("at", submitted.run_id)
    one.kill()
    receipt = submitted.cancel(reason="down")
    assert receipt.outcome is Outcome.accepted and receipt.wait(40)
    two = worker("kept")
    other = kept(db).submit("go")
    two.hear("at", other.run_id)
    two.tell("open", other.run_id)
    assert other.result(40).status is S.completed
    assert (submitted.status, two.steps_of(submitted.run_id)) == (S.cancelled, [])


def test_handed_over(worker: Start, db: Any) -> None:
    """A worker that leaves hands its runs over: they go on elsewhere, uncancelled, with no lease to wait for."""
    one = worker("kept", drain=0)
    submitted = kept(db).submit("go", session_state={"begun": 41})
    one.hear("at", submitted.run_id)
    first_step_is_stored(db, submitted.run_id)
    one.leave()
    assert one.ended() == 0
    assert (submitted.status, db.get_run(submitted.run_id).cancel) == (S.pending, None)
    assert [run.run_id for run in db.queued_runs()] == [submitted.run_id]
    two = worker("kept")
    two.hear("at", submitted.run_id)
    two.tell("open", submitted.run_id)
    output = submitted.result(40)
    assert (output.status, [step.step_name for step in output.step_results]) == (S.completed, ["one", "two", "three"])
    assert (one.steps_of(submitted.run_id), two.steps_of(submitted.run_id, 2)) == (["one", "two"], ["two", "three"])
    assert not [said for said in one.heard if "undone" in said], "it wasn't cancelled: nothing is cleaned up after it"


def test_a_tool_call_isn_t_made_again(worker: Start, db: Any, fleet: str) -> None:
    """C2: an agent that goes on elsewhere knows what its tools had said, and a call that was torn isn't made again.

    After a crash, or after it was handed over.
    """
    one = worker("shop", drain=0, env={"DESIST_TEST_FIRST": "1"})
    submitted = known("Shop", db, "buy", on_crash="resume").submit("buy it", session_id="s")
    one.hear("at", submitted.run_id)
    while not any(run.tools for run in db.get_runs("s", "agent")):
        db.flush()
    if fleet == "command-postgres":
        one.kill()
    else:
        one.leave()
        one.ended()
    two = worker("shop")
    output = submitted.result(40)
    assert (output.status, output.content) == (S.completed, "Maybe.")
    assert not [said for said in two.heard if "called" in said]
    told = [
        message.content for run in output.step_executor_runs[-1:] for message in run.messages if message.role == "tool"
    ]
    assert told == ["in stock", CANCELLED_RESULT]


def test_drained(worker: Start, db: Any) -> None:
    """A worker that leaves lets its runs end, and takes no new ones; a peer does."""
    one = worker("marked")
    marked = known("Marked", db, "one", "two", "three")
    submitted = marked.submit("go")
    one.hear("at", submitted.run_id)
    one.leave()
    two = worker("marked").wait_ready()
    other = marked.submit("go")
    two.hear("at", other.run_id)
    one.tell("open", submitted.run_id)
    assert one.ended() == 0
    output = submitted.result(40)
    assert output.status is S.completed and output.content == f"three of {one.process.pid}"
    two.tell("open", other.run_id)
    assert other.result(40).content == f"three of {two.process.pid}"


def test_cancelled_by_the_shutdown(worker: Start, db: Any) -> None:
    """A run that can't be handed over is cancelled when the time is over, with source `shutdown`, and stored."""
    one = worker("marked", drain=0)
    submitted = known("Marked", db, "one", "two", "three").submit("go")
    one.hear("at", submitted.run_id)
    one.leave()
    assert one.ended() == 0
    output = submitted.result(40)
    assert (output.status, output.cancel.source.value) == (S.cancelled, "shutdown")
    assert [step.step_name for step in output.step_results] == ["one", "two"]


def test_limits(worker: Start, db: Any) -> None:
    """At most so many runs of a workflow go on at a time, on all workers together, and so many on each."""
    ears: queue.Queue[Any] = queue.Queue()
    for _ in range(2):
        worker("kept", "marked", concurrency=2, limit="marked=3", ears=ears).wait_ready()
    marked = known("Marked", db, "one", "two", "three")
    submitted = [marked.submit("go") for _ in range(8)]
    waiting: list[tuple[WorkerProcess, str]] = []  # they go on for as long as nobody opens their gate
    for opened in range(8):
        while len(waiting) < min(3, 8 - opened):
            one, said = ears.get(timeout=40)
            waiting += [(one, said["at"])] if "at" in said else []
        assert len(waiting) <= 3
        assert max(Counter(one for one, _ in waiting).values()) <= 2
        one, run_id = waiting.pop(0)
        one.tell("open", run_id)
    assert [run.result(40).status for run in submitted] == [S.completed] * 8


def test_an_unknown_workflow_is_left_alone(worker: Start, db: Any, url: str) -> None:
    """A worker leaves runs of a workflow that it doesn't have alone, visibly; one that has it drives them."""
    simple = known("Simple", db, "quick")
    submitted = simple.submit("go")
    one = worker("marked")
    other = known("Marked", db, "one", "two", "three").submit("go")
    one.hear("at", other.run_id)
    (waits,) = db.queued_runs()
    assert (waits.run_id, waits.workers, waits.words) == (
        submitted.run_id,
        0,
        "waiting for a worker that has 'simple'",
    )
    assert submitted.status is S.pending
    shown = [sys.executable, "-c", "from desist.cli import main; main()", "show", submitted.run_id, "--db", url]
    assert "a worker that has 'simple'" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    one.tell("open", other.run_id)
    worker("simple")
    assert submitted.result(40).content == "go"
    assert one.steps_of(submitted.run_id) == []


def test_frozen_and_taken_for_dead(worker: Start, db: Any) -> None:
    """C8: a worker that was frozen until its lease was over stops when it wakes, and writes nothing."""
    one = worker("kept")
    submitted = kept(db).submit("go")
    one.hear("at", submitted.run_id)
    first_step_is_stored(db, submitted.run_id)
    one.process.send_signal(signal.SIGSTOP)
    two = worker("kept").wait_ready()
    believed_dead(db)
    two.hear("at", submitted.run_id)
    one.process.send_signal(signal.SIGCONT)
    one.hear("left", submitted.run_id)
    two.tell("open", submitted.run_id)
    output = submitted.result(40)
    assert output.status is S.completed
    assert [step.content.split()[-1] for step in output.step_results][1:] == [str(two.process.pid)] * 2


def believed_dead(db: Any) -> None:
    """Let the lease of all other processes be over."""

    def over(tables: Any) -> None:
        for worker in tables.workers.all():
            tables.owners.expire(worker.process)
        tables.tx.execute(f"UPDATE {tables.tx.names.workers} SET until = 0")

    db.store.writer.put(over).result()
