"""What the demo runs, and how its keyboard and receipt behave without a terminal."""

from __future__ import annotations

import asyncio
import io

from rich.console import Console

from desist.cli.demo.continuing_model import ContinuingModel
from desist.cli.demo.measurements import StopMeasurement
from desist.cli.demo.receipt_panel import receipt
from desist.cli.terminal.keys import watch_keys
from desist.models.base import ModelRequest
from desist.models.message import Message
from desist.testing import ScriptedModel


def drawn(facts: StopMeasurement, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(receipt(facts))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def facts(**more: object) -> StopMeasurement:
    known: dict[str, object] = {
        "model": "m, on this machine",
        "scripted": False,
        "run_id": "r",
        "status": "CANCELLED",
        "stored_status": "CANCELLED",
        "source": "user",
        "by": "Ada",
        "reason": "enough",
    }
    return StopMeasurement(**{**known, **more})  # type: ignore[arg-type]


def test_an_endless_story_asks_for_the_next_chapter() -> None:
    """When the model has ended it is asked again, with what it wrote; the answer is one stream."""
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
    """Where standard input is no terminal nothing is watched, and nothing breaks."""
    with watch_keys(lambda: None) as watched:
        assert not watched


def test_the_receipt_says_when_the_model_goes_on() -> None:
    """A model that still computes is said to, in words that can't be missed."""
    assert "STILL COMPUTING" in drawn(facts(model_stopped=False))
    assert "stopped, 310 ms later" in drawn(facts(model_stopped=True, model_idle_ms=310.0))
    assert "not ours to measure" in drawn(facts(model_stopped=None))


def test_the_receipt_names_what_was_abandoned() -> None:
    """What could not be stopped stands in the receipt, at any width."""
    words = drawn(facts(abandoned=["thread download"]), width=30)
    assert "thread" in words
    assert "download" in words


def test_a_run_that_was_not_cancelled_has_no_receipt() -> None:
    """A finished story and a failure say so."""
    assert "smaller --after" in drawn(facts(status="COMPLETED"))
    assert "no village" in drawn(facts(status="ERROR", error="no village"))
