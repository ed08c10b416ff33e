"""`UserFeedbackTools`: a tool with which the model lets a human choose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NotRequired

from typing_extensions import TypedDict

from desist.tools.toolkit import Toolkit

__all__ = ["UserFeedbackTools"]


class _Option(TypedDict):
    label: str
    description: NotRequired[str]


class _Question(TypedDict):
    question: str
    header: NotRequired[str]
    options: list[_Option]
    multi_select: NotRequired[bool]


class UserFeedbackTools(Toolkit):
    """Lets the model ask questions with options. The run pauses until a human has chosen."""

    def __init__(self, instructions: str | None = None, add_instructions: bool = True, **options: Any) -> None:
        """Create the toolkit. `options` are those of `Toolkit`."""
        super().__init__(
            "user_feedback_tools",
            [self.ask_user],
            instructions=instructions or "If the user has to decide between options, call ask_user.",
            add_instructions=add_instructions,
            **options,
        )
        for function in self.functions.values():
            function.human = replace(function.human, requires_user_input=True, asks="questions")

    def ask_user(self, questions: list[_Question]) -> str:
        """Ask the user to choose.

        Args:
            questions: the questions, each with its options.
        """
        raise AssertionError("the answer of the human is the result")
