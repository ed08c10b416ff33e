"""`@tool`: creates a `Function` from a function or a method. A `Function` can still be called directly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from desist.exceptions import ConfigurationError
from desist.run.options.strict import refuse_unknown
from desist.tools.function import NOT_YET, Function
from desist.tools.human_input import OnAnswerTimeout
from desist.tools.isolation import Isolation

if TYPE_CHECKING:
    from desist.calls.base import InterruptMode

__all__ = ["tool"]

_OPTIONS = {"name", *(Function.__init__.__kwdefaults__ or ())} - {"parameters"}


@overload
def tool(function: Callable[..., Any], /) -> Function: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    instructions: str | None = None,
    add_instructions: bool = True,
    show_result: bool = False,
    stop_after_tool_call: bool = False,
    pre_hook: Callable[..., Any] | None = None,
    post_hook: Callable[..., Any] | None = None,
    timeout: float | None = None,
    on_cancel: Callable[..., Any] | None = None,
    isolation: Isolation | None = None,
    grace: float | None = None,
    interrupt: InterruptMode = "auto",
    requires_confirmation: bool | None = None,
    requires_user_input: bool | None = None,
    user_input_fields: Sequence[str] | None = None,
    external_execution: bool | None = None,
    external_execution_silent: bool | None = None,
    answer_timeout: float | None = None,
    on_answer_timeout: OnAnswerTimeout = "cancel",
    **unsupported: Any,
) -> Callable[[Callable[..., Any]], Function]: ...


def tool(
    function: Callable[..., Any] | None = None, /, **options: Any
) -> Function | Callable[[Callable[..., Any]], Function]:
    """Create a tool from a function: `@tool`, or `@tool(name=..., timeout=...)` with the options of `Function`.

    On a method of a `Toolkit`, `self` is not shown to the model. `timeout` is in seconds.

    Raises:
        ConfigurationError: the object can't be a tool.
        UnsupportedError: an unknown option.
    """
    unknown = {name: value for name, value in options.items() if name not in _OPTIONS}
    refuse_unknown("@tool", unknown, unless_off=NOT_YET)
    kept = {name: value for name, value in options.items() if name in _OPTIONS}
    if function is None:
        return lambda found: Function.from_callable(found, **kept)
    if not callable(function) and not isinstance(function, classmethod):
        raise ConfigurationError(f"@tool takes a function, got {function!r}: pass options by name")
    return Function.from_callable(function, **kept)
