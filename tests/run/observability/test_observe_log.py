"""The log: what is said at which level, with which ids, and what a program without any set-up sees."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from desist import Agent, Step, Workflow, runs
from desist.cancel import on_cancel
from desist.testing import Call, Gate, ScriptedModel

PATIENCE = 60.0


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="desist"):
        yield caplog


def of_run(log: pytest.LogCaptureFixture, run_id: str) -> list[logging.LogRecord]:
    """Return the records that are about one run."""
    return [record for record in log.records if getattr(record, "run_id", None) == run_id]


def cancelled_tree(**options: Any) -> tuple[str, str]:
    """Run an agent in a workflow, cancel it in the middle; return the ids of both."""
    gate = Gate()
    workflow = Workflow("W", steps=[Step("one", agent=Agent(ScriptedModel([["a ", gate]]), name="A"))], **options)
    with workflow.run("go", stream=True, stream_events=True) as events:
        ids = [event.run_id for event in _until_content(events)]
        gate.wait_reached()
        assert workflow.cancel(events.run_id, reason="enough", by="ann").wait(PATIENCE)
    return ids[0], ids[-1]


def _until_content(events: Any) -> Iterator[Any]:
    for event in events:
        yield event
        if event.is_content:
            return


def test_every_record_of_a_run_carries_its_ids(log: pytest.LogCaptureFixture) -> None:
    """Each record about a run has run_id and root_run_id as attributes, and its text names the run."""
    top, agent = cancelled_tree()
    ours = [record for record in log.records if record.name.startswith("desist.")]
    assert {record.run_id for record in ours} == {top, agent}  # type: ignore[attr-defined]
    assert all(record.root_run_id == top for record in ours)  # type: ignore[attr-defined]
    assert all(record.run_id in record.getMessage() for record in ours)  # type: ignore[attr-defined]


def test_a_cancel_is_information_and_never_an_error(log: pytest.LogCaptureFixture) -> None:
    """Start: debug. Cancel, with source, words and name, and end: info. Nothing above, no traceback."""
    top, agent = cancelled_tree()
    for run_id in (top, agent):
        records = of_run(log, run_id)
        assert {record.levelname for record in records} == {"DEBUG", "INFO"}
        assert "starts" in records[0].getMessage() and records[0].levelname == "DEBUG"
        told = [record.getMessage() for record in records if record.levelname == "INFO"]
        assert len(told) == 2
        assert any("enough (by ann)" in text for text in told)
        assert any(text.endswith("has ended: CANCELLED") for text in told)
    assert not [record for record in log.records if record.exc_info]


def test_an_abandoned_thread_is_a_warning_and_its_end_information(log: pytest.LogCaptureFixture) -> None:
    """Work given up in a tree is warned of once, under its own run's id; when it ends at last, that is logged too."""
    entered, release = threading.Event(), threading.Event()

    def deaf() -> str:
        """Hear nothing."""
        entered.set()
        while not release.is_set():
            try:
                release.wait(PATIENCE)
            except BaseException:
                continue
        return "late"

    agent = Agent(ScriptedModel([Call("deaf")]), tools=[deaf])
    workflow = Workflow("W", steps=[Step("one", agent=agent)], grace=0.01)
    events = workflow.run("go", stream=True)
    assert entered.wait(PATIENCE)
    (below,) = [info.run_id for info in runs() if info.parent_run_id == events.run_id]
    ended = threading.Event()
    watch = _Watch("its result is dropped", ended)
    logging.getLogger().addHandler(watch)  # behind the one that keeps the records
    assert workflow.cancel(events.run_id).wait(PATIENCE)
    release.set()
    assert ended.wait(PATIENCE)
    logging.getLogger().removeHandler(watch)
    warned = [record for record in log.records if record.levelname == "WARNING"]
    assert (
        len(warned) == 1
        and warned[0] in of_run(log, below)
        and "'deaf' could not be stopped and is abandoned" in warned[0].getMessage()
    )
    late = [record for record in of_run(log, below) if "its result is dropped" in record.getMessage()]
    assert [record.levelname for record in late] == ["INFO"]


class _Watch(logging.Handler):
    """Sets an event when a record says something."""

    def __init__(self, text: str, event: threading.Event) -> None:
        super().__init__()
        self._text, self._event = text, event

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._event.set()


@pytest.mark.loud
def test_a_hook_that_fails_is_a_warning_with_its_traceback(log: pytest.LogCaptureFixture) -> None:
    """An on_cancel callback that raises is warned of, with its run's id; the cancel goes on."""
    gate = Gate()

    def work() -> str:
        """Work."""
        on_cancel(lambda: 1 / 0)
        gate.wait_blocking()
        return "done"

    agent = Agent(ScriptedModel([Call("work")]), tools=[work])
    events = agent.run("go", stream=True)
    gate.wait_reached()
    assert agent.cancel(events.run_id).wait(PATIENCE)
    (warned,) = [record for record in of_run(log, events.run_id) if record.levelno > logging.INFO]
    assert warned.levelname == "WARNING" and warned.exc_info is not None
    assert warned.exc_info[0] is ZeroDivisionError and events.run_id in warned.getMessage()


def test_a_cleanup_hook_that_fails_is_a_warning_of_its_run(log: pytest.LogCaptureFixture) -> None:
    """A step's on_cancel hook that raises is warned of under its run's id."""

    def tidy() -> None:
        raise OSError("the table is gone")

    gate = Gate()
    step = Step("one", agent=Agent(ScriptedModel([[gate]])), on_cancel=tidy)
    workflow = Workflow("W", steps=[step], grace=PATIENCE)
    events = workflow.run("go", stream=True)
    gate.wait_reached()
    assert workflow.cancel(events.run_id).wait(PATIENCE)
    (warned,) = [record for record in of_run(log, events.run_id) if record.levelno > logging.INFO]
    assert warned.levelname == "WARNING" and "the table is gone" in warned.getMessage()
    assert events.run_id in warned.getMessage()


PROGRAM = """
import threading
from desist import Agent
from desist.testing import Call, Gate, ScriptedModel
entered, gate, deaf = threading.Event(), Gate(), {deaf}
def work() -> str:
    '''Work.'''
    entered.set()
    if not deaf:
        gate.wait_blocking()
    while True:
        try:
            threading.Event().wait(30)
        except BaseException:
            pass
agent = Agent(ScriptedModel([Call("work")]), tools=[work], grace=0.01)
events = agent.run("go", stream=True)
entered.wait()
agent.cancel(events.run_id).wait()
print(events.run_id)
"""


@pytest.mark.parametrize("deaf", [False, True], ids=["clean", "abandoned"])
def test_without_any_set_up_only_a_warning_is_seen(deaf: bool) -> None:
    """A program that set up no logging: a clean cancel prints nothing; a thread that is left running, one line."""
    program = [sys.executable, "-c", PROGRAM.format(deaf=deaf)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=40, check=True)
    run_id = ran.stdout.strip()
    if deaf:
        assert ran.stderr == f"run {run_id}: thread 'work' could not be stopped and is abandoned\n"
    else:
        assert ran.stderr == ""
