"""What a run used: seconds and tokens, of each step and in all."""

from __future__ import annotations

from pathlib import Path

from desist import Agent, Step, Workflow
from desist.db import SqliteDb
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.testing import Gate, ScriptedModel
from desist.workflow import Loop, Parallel


def test_each_step_is_counted(tmp_path: Path) -> None:
    """Steps by name, those in containers too; rounds of a loop are added; stored and read back as they were."""
    agent = Agent(ScriptedModel(["one two three"] * 3), name="A")
    steps = [
        Step("plain", executor=lambda given: "x"),
        Loop([Step("say", agent=agent)], name="rounds", max_iterations=3),
        Parallel(Step("a", executor=lambda given: "a"), Step("b", executor=lambda given: "b"), name="both"),
    ]
    db = SqliteDb(db_file=str(tmp_path / "runs.db"))
    output = Workflow("W", steps=steps, db=db).run("go")
    used = output.metrics
    assert set(used.steps) == {"plain", "rounds", "say", "both", "a", "b"}
    assert [used.steps[name].runs for name in ("plain", "say", "both")] == [1, 3, 1]
    assert all(step.duration is not None and step.duration >= 0 for step in used.steps.values())
    assert used.duration >= used.steps["rounds"].duration >= used.steps["say"].duration
    say = used.steps["say"]
    assert (say.executor_type, say.executor_name, say.metrics.model_calls) == ("agent", "A", 3)
    assert say.metrics.output_tokens == sum(run.metrics.output_tokens for run in output.step_executor_runs) > 0
    assert used.steps["plain"].metrics is None
    stored = db.get_run(output.run_id)
    assert isinstance(stored, WorkflowRunOutput) and stored.metrics.steps["say"].metrics == say.metrics


def test_a_cancelled_step_is_counted() -> None:
    """The seconds of an interrupted step, and of the run, are told too."""
    gate = Gate()

    async def wait(given: object) -> None:
        await gate.wait()

    workflow = Workflow("W", steps=[Step("wait", executor=wait)])
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    assert workflow.cancel(reader.run_id).wait(10)
    output = workflow.get_run(reader.run_id)
    assert output is not None and output.metrics is not None
    assert 0 <= output.metrics.steps["wait"].duration <= output.metrics.duration  # type: ignore[operator]
