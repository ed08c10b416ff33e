"""`HumanReview`: what a step needs of a human. `pause` says the same of a function.

Steps and containers take it as `human_review=`, or its fields one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from desist.exceptions import ConfigurationError, UnsupportedError

__all__ = ["HumanReview", "OnReject", "OnTimeout", "pause", "review_of"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__desist_human_review__"


class OnReject(str, Enum):
    """What follows a rejection."""

    skip = "skip"  #: go on without the step
    cancel = "cancel"  #: cancel the run
    else_branch = "else"  #: of a Condition: run its else_steps
    retry = "retry"  #: of a review of an output: run the step again, with the feedback


class OnTimeout(str, Enum):
    """What happens if nobody answers in time."""

    cancel = "cancel"
    skip = "skip"
    approve = "approve"


@dataclass(kw_only=True)
class HumanReview:
    """What a step waits for before it runs, or after."""

    requires_confirmation: bool = False
    confirmation_message: str | None = None
    requires_user_input: bool = False
    user_input_message: str | None = None
    user_input_schema: list[dict[str, Any]] | None = None  #: name, field_type, description, required, allowed_values
    allow_multiple_selections: bool = False
    requires_output_review: bool | Callable[..., bool] = False  #: a function of the StepOutput says when
    output_review_message: str | None = None
    requires_iteration_review: bool = False
    iteration_review_message: str | None = None
    on_reject: OnReject | str = OnReject.skip
    on_error: Any = None
    max_retries: int = 3
    timeout: float | None = None  #: seconds to wait for an answer
    on_timeout: OnTimeout | str = OnTimeout.cancel
    _checked: bool = field(default=False, repr=False, compare=False)

    @property
    def needed(self) -> bool:
        """Whether anything waits for a human."""
        before = self.requires_confirmation or self.requires_user_input
        return bool(before or self.requires_output_review or self.requires_iteration_review)


def review_of(
    where: str, given: HumanReview | None, allowed: Sequence[str], flat: dict[str, Any] | None = None
) -> HumanReview:
    """Return the checked settings of a step.

    Parameters:
        where: the step, for errors.
        given: its `human_review=`.
        allowed: what this kind of step can wait for: "confirmation", "user_input", "output_review", ...
        flat: the same settings, given one by one; None where they are not.

    Raises:
        ConfigurationError: a value can't be used.
        UnsupportedError: this kind of step can't wait for that.
    """
    if given is not None and not isinstance(given, HumanReview):
        raise ConfigurationError(f"human_review= of {where} must be a HumanReview, not {given!r:.80}")
    named = {name: value for name, value in (flat or {}).items() if value is not None}
    made = replace(given or HumanReview(), **named)
    try:
        made.on_reject, made.on_timeout = OnReject(made.on_reject), OnTimeout(made.on_timeout)
    except ValueError as error:
        raise ConfigurationError(f"human review of {where}: {error}") from None
    for kind in ("confirmation", "user_input", "output_review", "iteration_review"):
        if getattr(made, f"requires_{kind}") and kind not in allowed:
            raise UnsupportedError(f"{where} can't wait for {kind}: requires_{kind}= is for other kinds of steps")
    if made.on_reject is OnReject.retry and not made.requires_output_review:
        raise UnsupportedError(f"{where}: on_reject='retry' needs requires_output_review=")
    if made.on_reject is OnReject.else_branch and "else" not in allowed:
        raise UnsupportedError(f"{where}: on_reject='else' is for a Condition")
    if made.timeout is not None and not (isinstance(made.timeout, int | float) and made.timeout > 0):
        raise ConfigurationError(f"human review of {where}: timeout={made.timeout!r} must be more than 0 seconds")
    if made.requires_user_input and made.on_timeout is OnTimeout.approve:
        raise ConfigurationError(f"human review of {where}: on_timeout='approve' has no values for user input")
    for one in made.user_input_schema or ():
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise ConfigurationError(f"human review of {where}: user_input_schema needs dicts with a name, not {one!r}")
    return made


def pause(
    name: str | None = None,
    *,
    requires_confirmation: bool = False,
    confirmation_message: str | None = None,
    requires_user_input: bool = False,
    user_input_message: str | None = None,
    user_input_schema: list[dict[str, Any]] | None = None,
) -> Callable[[F], F]:
    """Mark a function: a step that runs it waits for a human first. A decorator.

    Parameters:
        name: the name of the step; None for that of the function.
        requires_confirmation, confirmation_message, requires_user_input, user_input_message, user_input_schema: as for
            `HumanReview`.
    """

    def mark(function: F) -> F:
        review = HumanReview(
            requires_confirmation=requires_confirmation or not requires_user_input,
            confirmation_message=confirmation_message,
            requires_user_input=requires_user_input,
            user_input_message=user_input_message,
            user_input_schema=user_input_schema,
        )
        setattr(function, _MARK, (name, review))
        return function

    return mark


def marked(function: Any) -> tuple[str | None, HumanReview | None]:
    """Return the name and the settings that `pause` has given to a function."""
    found: tuple[str | None, HumanReview | None] = getattr(function, _MARK, (None, None))
    return found
