"""Draws the pictures of `docs/terminal.md` from the program itself: `python docs/pictures.py`.

The runs are scripted, not of a model; what is shown of them, and of how they are stopped, is what happened.
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
from desist.cli.client import open_depot
from desist.cli.foreground.local_run import NearRun
from desist.cli.foreground.result_panel import end_of
from desist.cli.terminal.svg_recording import Recording, svg_of
from desist.cli.watch.app import Watch
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel

HERE = Path(__file__).parent
WIDTH, HEIGHT = 108, 25
ASKED = "Write a very long story about a dragon who learns to code."
STORY = """## Chapter 1

Ember blew a careful spark at the keyboard and waited. The cursor blinked. "Is it thinking?" she asked.

"It is waiting for you," said the mouse on her shoulder. "Programs do what they are told, one line at a time, and they \
stop when they are told to. The second part is harder than it sounds."

Ember wrote a loop that counted her gold. It counted, and counted, and would not end: """


def says(words: str) -> Callable[[StepInput], str]:
    """Return a step's function."""
    return lambda given: words


def pieces() -> Iterator[str]:
    """Return the story, a word at a time."""
    for word in (STORY * 40).split(" "):
        yield f"{word} "


def story(db: Any = None) -> Workflow:
    """Return the workflow of the pictures."""
    writer = Agent(ScriptedModel([list(pieces())], delay=0.001, repeat=True), name="Writer")
    prepare = Parallel(
        Step("outline", executor=says("Three chapters.")),
        Step("names", executor=says("Ember, a mouse.")),
        name="prepare",
    )
    research = Step("research", executor=says("Ember is a small green dragon."))
    return Workflow("A dragon learns to code", steps=[research, prepare, Step("writing", agent=writer)], db=db)


def draw_run() -> None:
    """Draw `desist run`, stopped by Ctrl-C."""
    workflow = story()
    run = NearRun(workflow, workflow.run(ASKED, stream=True, stream_events=True))
    recording = Recording(HERE / "run.svg")
    spoken = 0
    last: Any = None
    with recording.view(run.run_id, ASKED) as view:
        for told in run.events():
            view.take(told.event)
            last = told.event
            spoken += told.event.event == "RunContent"
            if spoken == 70:
                spoken += 1
                run.stop(Source.interrupt, "Ctrl-C", force=False)
    recording.console.print(end_of(last, time.monotonic() - run.began_at, recording.console))
    recording.save(f'desist run story.py "{ASKED}"')


def draw_watch() -> None:
    """Draw `desist watch`, with a run that is being stopped and doesn't hear."""
    gate = Gate()

    def deaf(given: StepInput) -> str:
        time.sleep(3)
        return ""

    def broken(given: StepInput) -> str:
        raise ValueError("the printer is on fire")

    async def wait(given: StepInput) -> str:
        await gate.wait()
        return ""

    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "runs.db")
        db = SqliteDb(place)
        Workflow("Nightly report", steps=[Step("count", executor=says("1,204 visitors"))], db=db).run("yesterday")
        Workflow("Label printer", steps=[Step("print", executor=broken, on_error="fail", max_retries=0)], db=db).run(
            "42"
        )
        stopped = story(db)
        for event in stopped.run(ASKED, stream=True, stream_events=True):
            if event.event == "RunContent" and event.event_index and event.event_index > 60:
                stopped.cancel(event.run_id, reason="enough of dragons", by="ann")
        live = [
            Workflow("Import", steps=[Step("fetch", executor=says("ok")), Step("load", executor=wait)], db=db),
            Workflow("Monthly billing", steps=[Step("check", executor=says("ok")), Step("send", executor=deaf)], db=db),
        ]
        live[1].grace = 60.0
        readers = [flow.run("November", stream=True, stream_events=True) for flow in live]
        for reader in readers:
            next(event for event in reader if event.event == "StepStarted" and event.step_name in ("load", "send"))
        _watch(db, place, readers[1].run_id)
        gate.open()
        for flow, reader in zip(live, readers, strict=True):
            flow.cancel(reader.run_id, force=True)
            reader.close()
        db.close()


def _watch(db: SqliteDb, place: str, run_id: str) -> None:
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        _environ={},
    )
    depot = open_depot(place, None, None)
    depot.name = "runs.db"
    watch = Watch(depot, None, console)
    until(lambda: len(watch.lookout.look.runs) == 5)
    watch.picture()
    watch.select(run_id)
    until(lambda: watch.run() is not None and watch.lookout.look.chosen is not None)
    until(lambda: all(run.steps for run in watch.lookout.look.runs if run.is_live))
    watch.press("x")
    watch.stopper.finish()
    until(lambda: (found := watch.run()) is not None and found.status == "CANCELLING")
    drawn = watch.picture()
    console.print(drawn)
    (HERE / "watch.svg").write_text(svg_of(console), encoding="utf-8")
    watch.stop()


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    bell = threading.Event()
    while not holds():
        bell.wait(0.02)


if __name__ == "__main__":
    draw_run()
    draw_watch()
