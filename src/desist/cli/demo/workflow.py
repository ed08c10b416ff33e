"""The workflow of the demo: two steps that write a very long story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from desist.agent.agent import Agent
from desist.cli.demo.continuing_model import ContinuingModel
from desist.workflow.step import Step
from desist.workflow.workflow import Workflow

if TYPE_CHECKING:
    from desist.models.base import Model
    from desist.models.local import LocalServer
    from desist.testing.scripted import ScriptedModel

__all__ = ["PROMPT", "DemoWorkflow", "local_demo", "openai_demo", "scripted_demo"]

PROMPT = (
    "Write a very long story about a dragon who learns to code. "
    "Make it at least 2000 words with detailed descriptions and dialogue."
)
_RESEARCH = "Who is the dragon, and where does it live? Answer in two short sentences. Do not write the story."
_WRITING = (
    "You are a storyteller for children. Write a very long story about a dragon who learns to write computer programs, "
    "with many chapters, detailed descriptions and dialogue."
)

_SCRIPTED_NOTES = "Ember is a small green dragon. She lives in a cave above a village that has one slow computer."
_SCRIPTED_CHAPTER = """## Chapter {number}

Ember blew a careful spark at the keyboard and waited. The cursor blinked. "Is it thinking?" she asked.

"It is waiting for you," said the mouse on her shoulder. "Programs do what they are told, one line at a time, and they
stop when they are told to. The second part is harder than it sounds."

Ember wrote a loop that counted her gold. It counted, and counted, and would not end: there was always one more coin
under the last one. Smoke curled out of the little machine. "Stop," said Ember. It did not. "Please stop," said Ember.

"Ask it properly," said the mouse, and showed her how.

"""


@dataclass(frozen=True, slots=True)
class DemoWorkflow:
    """A workflow and its model."""

    workflow: Workflow
    label: str  #: display name of the model
    server: LocalServer | None = None  #: the server of the local model, whose CPU time can be measured
    script: ScriptedModel | None = None


def local_demo() -> DemoWorkflow:
    """Return the workflow with the local model, which must be installed."""
    from desist.models.local import LocalChat

    notes = LocalChat(max_tokens=40, temperature=0.3)
    story = LocalChat(max_tokens=1500, temperature=0.8, top_p=0.95)
    endless = ContinuingModel(story)
    return DemoWorkflow(
        _workflow(lambda long: endless if long else notes), f"{story.id}, on this machine", story.server
    )


def openai_demo(name: str) -> DemoWorkflow:
    """Return the workflow with the model `name` of an OpenAI-compatible provider.

    Raises:
        ConfigurationError: no API key is set.
    """
    from desist.models.openai import OpenAIChat

    chat = OpenAIChat(id=name)
    chat.check()
    return DemoWorkflow(_workflow(lambda long: chat), name)


def scripted_demo(delay: float = 0.03) -> DemoWorkflow:
    """Return the workflow with a script instead of a model, `delay` seconds per word: for trying the display only."""
    from desist.testing.scripted import ScriptedModel

    chapters = "".join(_SCRIPTED_CHAPTER.format(number=number) for number in range(1, 101))
    script = ScriptedModel([_SCRIPTED_NOTES, chapters], delay=delay)
    return DemoWorkflow(_workflow(lambda long: script), "scripted, not a model", script=script)


def _workflow(model: Callable[[bool], Model]) -> Workflow:
    researcher = Agent(model(False), name="Researcher", instructions=_RESEARCH)
    writer = Agent(model(True), name="Writer", instructions=_WRITING)
    steps = [
        Step(name="research", agent=researcher, max_retries=0, on_error="fail"),
        Step(name="writing", agent=writer, max_retries=0, on_error="fail"),
    ]
    return Workflow("A dragon learns to code", steps=steps)
