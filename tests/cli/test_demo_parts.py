"""The parts of the demo: its endless model, keys without a terminal, the receipt."""

from __future__ import annotations

import asyncio
import io

from cli_program import quick
from rich.console import Console

from desist.cancel.reason import Source
from desist.cancel.receipt import Abandoned, CancelRecord
from desist.cli.demo.continuing_model import ContinuingModel
from desist.cli.demo.measurements import CpuMeter, DemoResult
from desist.cli.demo.receipt_panel import receipt_panel
from desist.cli.demo.workflow import DemoWorkflow
from desist.cli.terminal.keys import watch_keys
from desist.models.base import ModelRequest
from desist.models.message import Message
from desist.run.workflow import WorkflowCancelledEvent, WorkflowCompletedEvent, WorkflowErrorEvent
from desist.testing import ScriptedModel


def drawn(result: DemoResult, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(receipt_panel(result))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def cancelled(*abandoned: Abandoned) -> WorkflowCancelledEvent:
    record = CancelRecord(source=Source.user, by="Ada", reason="enough", settled_at=1.0, abandoned=list(abandoned))
    return WorkflowCancelledEvent(run_id="r", cancel=record)


def result(terminal: object, server: object = None, idle_after: float | None = None) -> DemoResult:
    demo = DemoWorkflow(quick, "m, on this machine", server=server)  # type: ignore[arg-type]
    meter = CpuMeter(DemoWorkflow(quick, "m"))
    meter.idle_after = idle_after
    return DemoResult(demo=demo, terminal=terminal, read_at=1.0, meter=meter, pieces=0)


def test_an_endless_story_asks_for_the_next_chapter() -> None:
    """When the inner model has ended, it is called again with the end of its text; the answers form one stream."""
    inner = ScriptedModel(["One.", "Two.", "Three."])

    async def main() -> str:
        asked = ModelRequest(messages=[Message("system", "be kind"), Message("user", "notes")])
        return "".join([piece.content or "" async for piece in ContinuingModel(inner, chapters=3).stream(asked)])

    assert asyncio.run(main()) == "One.\n\nTwo.\n\nThree.\n\n"
    first, second, _ = inner.requests
    assert first.messages[-1].content == "Write the first chapter of the story. Notes: notes"
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[2].content == "One."


def test_no_keys_without_a_terminal() -> None:
    """If standard input is not a terminal, no keys are watched."""
    with watch_keys(lambda: None) as watched:
        assert not watched


def test_the_receipt_says_when_the_model_goes_on() -> None:
    """The receipt says clearly if the model still computes."""
    server = object()
    assert "STILL COMPUTING" in drawn(result(cancelled(), server))
    assert "stopped, 310 ms later" in drawn(result(cancelled(), server, idle_after=0.31))
    assert "can't be measured here" in drawn(result(cancelled()))


def test_a_script_has_stopped_if_no_answer_is_in_progress() -> None:
    """A cancel before the first request of a step is no failure of the scripted demo."""
    script = ScriptedModel(["notes", "story"])
    made = result(cancelled())
    made.demo = DemoWorkflow(quick, "scripted", script=script)
    assert made.model_stopped is True

    async def leave() -> bool | None:
        stream = script.stream(ModelRequest(messages=[Message("user", "write")]))
        await anext(stream)
        during = made.model_stopped
        await stream.aclose()
        return during

    assert asyncio.run(leave()) is False
    assert made.model_stopped is True


def test_the_receipt_names_what_was_abandoned() -> None:
    """Abandoned work is named in the receipt at any width."""
    words = drawn(result(cancelled(Abandoned(name="download", kind="thread"))), width=30)
    assert "thread" in words
    assert "download" in words


def test_a_run_that_was_not_cancelled_has_no_receipt() -> None:
    """A completed or failed run is one line instead of a receipt."""
    assert "smaller --after" in drawn(result(WorkflowCompletedEvent(run_id="r")))
    assert "no village" in drawn(result(WorkflowErrorEvent(run_id="r", error="no village")))
