"""`print_response`: the output for a run that completes, fails, is cancelled, or is interrupted."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from desist.agent import Agent
from desist.agent.print_response import aprint_response
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.events.base import RunStatus
from desist.testing import Call, Gate, ScriptedModel
from desist.workflow import Loop, Parallel, Step, StepInput, Workflow


def clock(city: str) -> str:
    """Tell the time.

    Args:
        city: where.
    """
    return f"noon in {city}"


def paper(width: int = 80, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, **options)


def said(console: Console) -> str:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_completed_workflow_without_a_terminal() -> None:
    """Steps, tool calls, the streamed text and the end: each once, without control codes."""

    def facts(given: StepInput) -> str:
        return "Dragons exist."

    def pieces(given: StepInput) -> Iterator[str]:
        yield "one "
        yield "two"

    model = ScriptedModel([Call("clock", {"city": "Rome"}), "Once **upon** a time."])
    steps = [
        Step(name="facts", executor=facts),
        Step(name="pieces", executor=pieces),
        Step(name="story", agent=Agent(model, name="Writer", tools=[clock])),
    ]
    console = paper()
    Workflow("Dragons", steps=steps).print_response("Go", console=console, show_time=False)
    assert said(console).splitlines() == [
        "› Go",
        "Dragons",
        "› facts",
        "Dragons exist.",
        "✓ facts",
        "› pieces",
        "one two",
        "✓ pieces",
        "› story",
        "⚙ clock(city='Rome') ✓",
        "Once **upon** a time.",
        "✓ story",
        "✓ completed · 3 steps",
    ]


def test_containers_stand_around_their_steps() -> None:
    """A container's start, its steps, then its end; branches one after the other, iterations each."""
    talk = Agent(ScriptedModel("hello", repeat=True), name="Talk")
    steps = [
        Parallel("both", Step("one", agent=talk), Step("two", workflow=Workflow("Inner", steps=[talk]))),
        Loop([Step("turn", executor=lambda given: "round and round")], "again", max_iterations=2),
    ]
    console = paper()
    Workflow("W", steps=steps).print_response("Go", console=console, show_time=False)
    assert said(console).splitlines()[2:] == [
        "› both",
        *("  › one", "hello", "  ✓ one"),
        *("  › two", "    › Talk", "hello", "    ✓ Talk", "  ✓ two"),
        "✓ both",
        "› again",
        *("  › turn", "round and round", "  ✓ turn") * 2,
        "✓ again",
        "✓ completed · 7 steps",
    ]


def test_step_details_can_be_left_out() -> None:
    """`show_step_details=False` shows only the text and the end."""
    console = paper()
    workflow = Workflow("W", steps=[Step(name="s", agent=Agent(ScriptedModel("the text")))])
    workflow.print_response("Go", console=console, show_time=False, show_step_details=False)
    assert said(console).splitlines() == ["› Go", "the text", "✓ completed · 1 step"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_cancelled_run_says_who_why_and_what_was_kept(terminal: bool) -> None:
    """The result of a cancelled run is shown last: requester, reason, content kept."""
    gate, console = Gate(), paper(force_terminal=terminal, _environ={})
    writer = Agent(ScriptedModel([["Once ", "upon ", gate, "never"]]), name="Writer")
    workflow = Workflow(
        "W", steps=[Step(name="facts", executor=lambda given: "Yes."), Step(name="story", agent=writer)]
    )

    def stop() -> None:
        gate.wait_reached()
        workflow.cancel("run-printed", reason="too long", by="Ada")

    canceller = threading.Thread(target=stop)
    canceller.start()
    workflow.print_response("Go", console=console, run_id="run-printed")
    canceller.join()
    shown = said(console)
    assert "never" not in shown
    end = shown[shown.rindex("cancelled after") :]
    for words in ("Ada", "too long", "1 finished step and 1 in part, 14 characters", "abandoned", "nothing"):
        assert words in end
    assert ("\x1b" in shown) is terminal


def test_a_failed_run_is_one_clear_line() -> None:
    """An error is shown with its message and without a traceback; print_response returns."""
    console = paper()
    Agent(ScriptedModel([ValueError("no such\nvillage")]), name="A").print_response("Go", console=console)
    last = said(console).splitlines()[-1]
    assert last.startswith("✗ failed after")
    assert last.endswith("no such village")
    assert "Traceback" not in said(console)


def test_a_failed_step_is_named() -> None:
    """A failed step is shown in its position; the workflow continues."""

    def broken(given: StepInput) -> str:
        raise ValueError("no dice")

    console = paper()
    steps = [Step(name="bad", executor=broken, max_retries=0), Step(name="good", executor=lambda given: "fine")]
    Workflow("W", steps=steps).print_response("Go", console=console, show_time=False)
    assert "✗ bad · failed · no dice" in said(console)
    assert said(console).splitlines()[-1] == "✓ completed · 1 step"


def test_text_in_one_piece_without_streaming() -> None:
    """`stream=False` shows the text when it is complete; nothing else changes."""
    console = paper()
    agent = Agent(ScriptedModel([["a ", "b ", "c"]]), name="A")
    agent.print_response("Go", stream=False, console=console, show_time=False)
    assert said(console).splitlines() == ["› Go", "A", "a b c", "✓ completed"]


def test_a_console_that_only_knows_ascii() -> None:
    """Symbols and text fall back to ASCII."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Agent(ScriptedModel("a 🐉"), name="A").print_response("Go", console=Console(file=file), show_time=False)
    file.seek(0)
    assert file.read().splitlines() == ["> Go", "A", "a ?", "+ completed"]


class _Interrupting(io.StringIO):
    """A file that raises KeyboardInterrupt when a word is written."""

    pressed = False

    def write(self, text: str) -> int:
        size = super().write(text)
        if "upon" in text and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return size


def test_ctrl_c_cancels_the_run_shows_its_end_and_is_raised_again() -> None:
    """The run is stored as cancelled with source interrupt before print_response raises KeyboardInterrupt."""
    console, gate = Console(file=_Interrupting(), width=80), Gate()
    workflow = Workflow("W", steps=[Step(name="s", agent=Agent(ScriptedModel([["Once ", "upon ", gate]])))])
    with pytest.raises(KeyboardInterrupt):
        workflow.print_response("Go", console=console, run_id="run-interrupted")
    output = workflow.get_run("run-interrupted")
    assert output is not None and output.cancel is not None
    assert (output.status, output.cancel.source) == (RunStatus.cancelled, "interrupt")
    assert "Ctrl-C" in said(console)[said(console).rindex("cancelled after") :]


def test_the_async_twin_shows_the_end_of_a_cancelled_task() -> None:
    """A cancelled task cancels its run, shows the result, and ends cancelled."""
    console, gate = paper(), Gate()

    async def main() -> None:
        agent = Agent(ScriptedModel([["Once ", gate]]), name="A")
        task = asyncio.create_task(aprint_response(agent, "Go", console=console))
        await asyncio.to_thread(gate.wait_reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert "Once" in said(console)
    assert "the reader, which stopped reading" in said(console)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"stream_events": True}, UnsupportedError, "stream_events="),
        ({"colour": "red"}, UnsupportedError, "colour="),
        ({"console": "stdout"}, ConfigurationError, "console="),
    ],
)
def test_unknown_options_are_refused_by_name(options: dict[str, Any], error: type[Exception], named: str) -> None:
    """Unknown options are errors that name them, and no run starts."""
    model = ScriptedModel("text")
    with pytest.raises(error, match=named):
        Agent(model).print_response("Go", **options)
    with pytest.raises(error, match=named):
        Workflow("W", steps=[Step(name="s", agent=Agent(model))]).print_response("Go", **options)
    assert model.requests == []


def test_rich_is_not_imported_by_a_run() -> None:
    """A run that prints nothing does not import rich."""
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from desist import Agent, Workflow, Step\n"
        "from desist.testing import ScriptedModel\n"
        "Workflow('W', steps=[Step(name='s', agent=Agent(ScriptedModel('a')))]).run('x')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'rich']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
