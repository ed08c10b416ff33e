"""`UserControlFlowTools`: a tool with which the model asks a human for values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from typing_extensions import TypedDict

from desist.tools.toolkit import Toolkit

__all__ = ["UserControlFlowTools"]


class _Field(TypedDict):
    field_name: str
    field_type: str
    field_description: str


class UserControlFlowTools(Toolkit):
    """Lets the model ask for values that it doesn't know. The run pauses until a human has given them."""

    def __init__(self, instructions: str | None = None, add_instructions: bool = True, **options: Any) -> None:
        """Create the toolkit. `options` are those of `Toolkit`."""
        super().__init__(
            "user_control_flow_tools",
            [self.get_user_input],
            instructions=instructions or "If you lack a value that only the user can know, call get_user_input.",
            add_instructions=add_instructions,
            **options,
        )
        for function in self.functions.values():
            function.human = replace(function.human, requires_user_input=True, asks="fields")

    def get_user_input(self, user_input_fields: list[_Field]) -> str:
        """Ask the user for values.

        Args:
            user_input_fields: the values: the name, type (str, int, float, bool, list or dict) and description of each.
        """
        raise AssertionError("the answer of the human is the result")
