"""Four clocks: a run's timeout, a point in time, a model that falls silent, and a step that may fail alone.

    python examples/deadline.py                 # scripted

What to look at: the clocks are kept by a thread of their own, so a loop that is busy doesn't stop them. Three of them
end the run, CANCELLED, with what it has by then; a step's own timeout is a failure, and the next step runs.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from desist import Agent, Step, StepInput, Workflow
from desist.cancel import sleep
from desist.testing import Gate, ScriptedModel

SLOW = "I am thinking about it with great care and will say something soon . . . . . . . . . . . . . . ."


def tell(what: str, output: Any, began: float) -> None:
    """Print how it ended."""
    source = output.cancel.source.value if output.cancel else "-"
    print(f"\n{what}\n   {output.status.value} after {time.monotonic() - began:.2f} s, source: {source}")
    print(f"   kept: {(output.content or '').strip()!r:.90}")


def fetch_prices(_: StepInput) -> str:
    """A slow service. `desist.cancel.sleep` stands for any wait that knows how to end."""
    sleep(60)
    return "fresh prices"


def use_prices(step_input: StepInput) -> str:
    """Work with what there is."""
    return step_input.get_step_content("fetch") or "yesterday's prices, with a note"


def main() -> None:
    """Let each of them ring."""
    thinker = Agent(ScriptedModel(SLOW, delay=0.05, repeat=True), name="Thinker")

    began = time.monotonic()
    tell("at most 0.4 seconds", thinker.run("Well?", timeout=0.4), began)

    began = time.monotonic()
    noon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.3)
    tell("until a point in time", thinker.run("Well?", deadline=noon), began)

    began = time.monotonic()
    silent = Agent(ScriptedModel([["Let me see... ", Gate("the rest never comes")]]), stall_timeout=0.3)
    tell("a model that falls silent for 0.3 s", silent.run("Well?"), began)

    began = time.monotonic()
    steps = [Step("fetch", executor=fetch_prices, timeout=0.3, max_retries=0), Step("use", executor=use_prices)]
    output = Workflow("Prices", steps=steps).run()
    tell("a step with a timeout of its own", output, began)
    print(f"   {[(step.step_name, step.error or 'ok') for step in output.step_results]}")


if __name__ == "__main__":
    main()
