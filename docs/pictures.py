"""Draw the pictures of `docs/terminal.md` with the real commands: `python docs/pictures.py`.

The models are scripted; the runs, and how they are cancelled, are real.
"""

from __future__ import annotations

import io
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from desist import Agent, Parallel, Step, StepInput, Workflow
from desist.cancel.reason import Source
from desist.cli.client import open_client
from desist.cli.foreground.local_run import LocalRun
from desist.cli.foreground.result_panel import result_panel
from desist.cli.terminal.svg_recording import Recording, svg_of
from desist.cli.watch.screen import WatchScreen
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel

HERE = Path(__file__).parent
WIDTH, HEIGHT = 108, 25
INPUT = "Write a very long story about a dragon who learns to code."
STORY = """## Chapter 1

Ember blew a careful spark at the keyboard and waited. The cursor blinked. "Is it thinking?" she asked.

"It is waiting for you," said the mouse on her shoulder. "Programs do what they are told, one line at a time, and they \
stop when they are told to. The second part is harder than it sounds."

Ember wrote a loop that counted her gold. It counted, and counted, and would not end: """


def returns(text: str) -> Callable[[StepInput], str]:
    """Return a function step that returns `text`."""
    return lambda step_input: text


def chunks() -> Iterator[str]:
    """Yield the story, word by word."""
    for word in (STORY * 40).split(" "):
        yield f"{word} "


def story(db: Any = None) -> Workflow:
    """Return the workflow of the pictures."""
    writer = Agent(ScriptedModel([list(chunks())], delay=0.001, repeat=True), name="Writer")
    prepare = Parallel(
        Step("outline", executor=returns("Three chapters.")),
        Step("names", executor=returns("Ember, a mouse.")),
        name="prepare",
    )
    research = Step("research", executor=returns("Ember is a small green dragon."))
    return Workflow("A dragon learns to code", steps=[research, prepare, Step("writing", agent=writer)], db=db)


def draw_run() -> None:
    """Draw `desist run`, cancelled by Ctrl-C."""
    workflow = story()
    run = LocalRun(workflow, workflow.run(INPUT, stream=True, stream_events=True))
    recording = Recording(HERE / "run.svg")
    emitted = 0
    last: Any = None
    with recording.view(run.run_id, INPUT) as view:
        for sent in run.events():
            view.take(sent.event)
            last = sent.event
            emitted += sent.event.event == "RunContent"
            if emitted == 70:
                emitted += 1
                run.cancel(Source.interrupt, "Ctrl-C", force=False)
    recording.console.print(result_panel(last, time.monotonic() - run.began_at, recording.console))
    recording.save(f'desist run story.py "{INPUT}"')


def draw_watch() -> None:
    """Draw `desist watch`, with a run that is cancelling and whose step does not react."""
    gate = Gate()

    def uncooperative(step_input: StepInput) -> str:
        time.sleep(3)
        return ""

    def broken(step_input: StepInput) -> str:
        raise ValueError("the printer is on fire")

    async def wait(step_input: StepInput) -> str:
        await gate.wait()
        return ""

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "runs.db")
        db = SqliteDb(path)
        Workflow("Nightly report", steps=[Step("count", executor=returns("1,204 visitors"))], db=db).run("yesterday")
        Workflow("Label printer", steps=[Step("print", executor=broken, on_error="fail", max_retries=0)], db=db).run(
            "42"
        )
        stopped = story(db)
        for event in stopped.run(INPUT, stream=True, stream_events=True):
            if event.event == "RunContent" and event.event_index and event.event_index > 60:
                stopped.cancel(event.run_id, reason="enough of dragons", by="ann")
        live = [
            Workflow("Import", steps=[Step("fetch", executor=returns("ok")), Step("load", executor=wait)], db=db),
            Workflow(
                "Monthly billing",
                steps=[Step("check", executor=returns("ok")), Step("send", executor=uncooperative)],
                db=db,
            ),
        ]
        live[1].grace = 60.0
        readers = [flow.run("November", stream=True, stream_events=True) for flow in live]
        for reader in readers:
            next(event for event in reader if event.event == "StepStarted" and event.step_name in ("load", "send"))
        _watch(path, readers[1].run_id)
        gate.open()
        for flow, reader in zip(live, readers, strict=True):
            flow.cancel(reader.run_id, force=True)
            reader.close()
        db.close()


def _watch(path: str, run_id: str) -> None:
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        _environ={},
    )
    client = open_client(path, None, None)
    client.name = "runs.db"
    watch = WatchScreen(client, None, console)
    until(lambda: len(watch.poller.snapshot.runs) == 5)
    watch.picture()
    watch.select(run_id)
    until(lambda: watch.run() is not None and watch.poller.snapshot.chosen is not None)
    until(lambda: all(run.steps for run in watch.poller.snapshot.runs if run.is_live))
    watch.press("x")
    watch.canceller.finish()
    until(lambda: (found := watch.run()) is not None and found.status == "CANCELLING")
    drawn = watch.picture()
    console.print(drawn)
    (HERE / "watch.svg").write_text(svg_of(console), encoding="utf-8")
    watch.stop()


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` is true."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.02)


if __name__ == "__main__":
    draw_run()
    draw_watch()
