"""`Function`: a tool, that is, a callable with the description that a model needs to call it.

Created by `@tool`, `Toolkit` and `resolve_tools`. The agent calls it, enforces `timeout` and handles exceptions.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from desist.exceptions import ConfigurationError
from desist.run.options.strict import refuse_unknown
from desist.run.records.message import UserFeedbackOption, UserFeedbackQuestion, UserInputField
from desist.strict_schema import non_strict_parts, say_not_strict, strict_schema
from desist.tools.arguments import decoded_arguments, parse_arguments
from desist.tools.bound_call import BoundCall, check_hook
from desist.tools.docstring import parse_docstring
from desist.tools.function_call import FunctionCall
from desist.tools.human_input import HumanInput, OnAnswerTimeout
from desist.tools.isolation import Isolation, check_options, check_reachable, refuse_linked
from desist.tools.signature import EMPTY, is_async, read_signature, unwrap

if TYPE_CHECKING:
    from desist.calls.base import InterruptMode
    from desist.tools.parameters import ParameterSchema
    from desist.tools.spec import OwningToolkit

__all__ = ["NOT_YET", "Function", "FunctionCall", "UserFeedbackOption", "UserFeedbackQuestion", "UserInputField"]

#: Parameters that are not supported yet. They are accepted if switched off.
NOT_YET = frozenset(
    {
        "approval_type",
        "cache_dir",
        "cache_results",
        "cache_ttl",
        "has_side_effects",
        "id",
        "sanitize_arguments",
        "tool_hooks",
    }
)
#: Tool names that every provider accepts.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Function:
    """A tool that an agent can call.

    `name`, `description` and `parameters` default to the callable's name, docstring and signature.
    Parameters annotated `RunContext` or `CancelToken`, and `agent: Agent`, `session_state: dict[str, Any]` and
    `dependencies: dict[str, Any]`, are injected and never shown to the model.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        entrypoint: Callable[..., Any],
        description: str | None = None,
        parameters: dict[str, Any] | None = None,
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
    ) -> None:
        """Create a tool. The signature is read when `parameters` is first used.

        Args:
            entrypoint: the callable: a function, a method, a partial or a callable object, sync or async.
            parameters: a JSON schema of type object, instead of that of the signature.
            strict: ask the provider to enforce the schema. Off, and logged once, where strict mode can't express it.
            instructions: text for the system prompt, added if `add_instructions`.
            show_result: show the result to the reader as content.
            stop_after_tool_call: end the agent's run with this tool's result.
            pre_hook: called before the tool, with the `BoundCall` and injected parameters.
            post_hook: called after the tool; `call.result` is its value. Not called if the tool raised.
            timeout: seconds that a call may take; None for no limit.
            on_cancel: called with the `ToolExecution` of an interrupted call, for cleanup.
            isolation: "process" runs a sync tool in a worker process, which a cancel can always kill. Function,
                arguments and result are pickled. None: the toolkit's isolation, or "thread".
            grace: seconds between SIGTERM and SIGKILL for such a process; None: the grace of the run.
            interrupt: how a cancel interrupts a sync tool. "auto": by every available means. "cooperative": by its
                token only. "never": not at all; the run waits for the tool, unless the cancel is forced.
            requires_confirmation: the run pauses before a call, until a human confirms it. Only one of this and the
                next three.
            requires_user_input: the run pauses until a human has filled in the `user_input_fields`.
            user_input_fields: names of the parameters that a human fills in; the model doesn't see them. None: all.
            external_execution: the tool is not called: the run pauses until the program gives its result.
            external_execution_silent: the content of such a paused run does not describe what is awaited.
            answer_timeout: seconds that the run waits for a human; None for no limit.
            on_answer_timeout: what happens then: "cancel" the run, "skip" the call, or "approve" it.

        Raises:
            ConfigurationError: an option is invalid.
            UnsupportedError: an unknown parameter.
        """
        refuse_unknown("Function", unsupported, unless_off=NOT_YET)
        self._static = isinstance(entrypoint, staticmethod)
        self.entrypoint = _checked(entrypoint)
        self.name = _checked_name(name if name is not None else _name_of(self.entrypoint))
        docstring = parse_docstring(_doc_of(self.entrypoint))
        self.description = description if description is not None else docstring.description
        self.strict = strict
        self.instructions = instructions
        self.add_instructions = add_instructions
        self.show_result = show_result
        self.stop_after_tool_call = stop_after_tool_call
        self.pre_hook = pre_hook
        self.post_hook = post_hook
        self.timeout = checked_timeout(timeout, f"tool '{self.name}'")
        self.on_cancel = on_cancel
        self.isolation: Isolation | None = isolation
        self.grace = grace
        self.interrupt: InterruptMode = interrupt
        self.human = HumanInput.checked(
            self.name,
            requires_confirmation=requires_confirmation,
            requires_user_input=requires_user_input,
            user_input_fields=user_input_fields,
            external_execution=external_execution,
            external_execution_silent=external_execution_silent,
            answer_timeout=answer_timeout,
            on_answer_timeout=on_answer_timeout,
        )
        self.owning_toolkit: OwningToolkit | None = None
        self.is_async = is_async(self.entrypoint)
        check_options(isolation, interrupt, grace, f"tool '{self.name}'", is_async=self.is_async)
        if on_cancel is not None and not callable(on_cancel):
            raise ConfigurationError(f"tool '{self.name}': on_cancel must be a function, got {on_cancel!r:.80}")
        self._docstring = docstring
        self._schema = _checked_schema(parameters, self.name)
        self._parameters: ParameterSchema | None = None
        for hook in (pre_hook, post_hook):
            if hook is not None:
                check_hook(hook, self.name, tool_is_async=self.is_async)
        self.check_isolation(defined=False)

    @classmethod
    def from_callable(cls, function: Callable[..., Any], name: str | None = None, **options: Any) -> Function:
        """Return a tool for a callable. `options` are those of `Function`.

        A `Function` without options is returned unchanged.

        Raises:
            ConfigurationError: the object can't be a tool.
        """
        if isinstance(function, Function):
            if name is None and not options:
                return function
            raise ConfigurationError(f"'{function.name}' is already a tool: pass the options where it is created")
        return cls(name, entrypoint=function, **options)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments.

        Raises:
            ConfigurationError: the signature has no JSON schema.
        """
        return self._schema if self._schema is not None else self._read().schema

    @property
    def requires_confirmation(self) -> bool:
        """Whether a human must confirm a call."""
        return self.human.requires_confirmation

    @property
    def requires_user_input(self) -> bool:
        """Whether a human fills in parameters."""
        return self.human.requires_user_input

    @property
    def external_execution(self) -> bool:
        """Whether the program executes the tool."""
        return self.human.external_execution

    @property
    def origin(self) -> str:
        """The qualified name of the callable, for error messages."""
        plain = unwrap(self.entrypoint)
        where = f"{getattr(plain, '__module__', '?')}.{getattr(plain, '__qualname__', plain)}"
        return f"{where} (toolkit '{self.owning_toolkit.name}')" if self.owning_toolkit else where

    def check(self) -> None:
        """Raise `ConfigurationError` if the tool can't be described to a model."""
        self._read()
        self.human.check_fields(self.name, self.parameters)
        self.definition()
        self.check_isolation(defined=True)
        if self.grace is not None and self.isolation != "process":
            raise ConfigurationError(f"tool '{self.name}': grace={self.grace!r} needs isolation='process'")

    def check_isolation(self, *, defined: bool) -> None:
        """Raise `ConfigurationError` for a tool with isolation="process" that another process can't import.

        Args:
            defined: False while the module is being executed, when the name is not defined yet.
        """
        if self.isolation != "process":
            return
        whose = f"tool '{self.name}'"
        check_reachable(unwrap(self.entrypoint), whose, is_async=self.is_async, defined=defined)
        if defined:
            refuse_linked([one.injected for one in self._read().signature.parameters if one.injected], whose)
            return
        try:
            parameters = read_signature(self.entrypoint, self.name).parameters
        except ConfigurationError:  # a name that is defined later, perhaps: checked again when an agent takes the tool
            return
        refuse_linked([one.injected for one in parameters if one.injected], whose)

    def definition(self) -> dict[str, Any]:
        """Return the definition for models, in the format of OpenAI."""
        described: dict[str, Any] = {"name": self.name}
        if self.description:
            described["description"] = self.description
        strict, parameters = self.strict, self.human.shown_schema(self.parameters)
        if strict and (part := next(non_strict_parts(parameters, self.name), None)):
            say_not_strict(f"the tool {part}")
            strict = False
        described["parameters"] = strict_schema(parameters, optional="null") if strict else parameters
        if strict is not None:
            described["strict"] = strict
        return {"type": "function", "function": described}

    def bind(self, arguments: str | Mapping[str, Any] | None, injected: Mapping[str, Any] | None = None) -> BoundCall:
        """Validate the model's arguments and return the call.

        Args:
            arguments: JSON text or values. pydantic converts values to the annotated types.
            injected: the injected values by key ("agent", "run_context", ...). A missing one is the parameter's
                default, else None; a missing "cancel_token" is the current one.

        Raises:
            ToolError: the arguments are invalid. The message is for the model.
        """
        parameters = self._read()
        parsed = parse_arguments(arguments, self.name)
        if self._schema is not None:
            parsed = decoded_arguments(parsed, self._schema)
        values = parameters.validate(parsed)
        return BoundCall(self, parameters.signature, values, injected or {})

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds. A function that `@tool` has replaced is held by the tool's name."""
        state = {**self.__dict__, "_parameters": None}
        if inspect.isfunction(self.entrypoint):
            by_name = _ByName(self.entrypoint.__module__, self.entrypoint.__qualname__)
            if getattr(by_name.tool(), "entrypoint", None) is self.entrypoint:
                state["entrypoint"] = by_name
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.entrypoint, _ByName):
            self.entrypoint = self.entrypoint.tool().entrypoint

    def copy(self) -> Function:
        """Return a shallow copy."""
        return copy.copy(self)

    def _read(self) -> ParameterSchema:
        from desist.tools.parameters import ParameterSchema

        if self._parameters is None:
            self._parameters = ParameterSchema(
                self.entrypoint, self.name, self._docstring, open_ended=self._schema is not None
            )
        return self._parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the entrypoint directly."""
        return self.entrypoint(*args, **kwargs)

    def __get__(self, instance: object | None, owner: type | None = None) -> Function:
        """Bind the tool to an object, like a method."""
        bind = getattr(self.entrypoint, "__get__", None)
        if instance is None or bind is None or self._static:
            return self
        bound = copy.copy(self)
        bound.entrypoint = bind(instance, owner)
        bound._parameters = None
        return bound

    def __repr__(self) -> str:
        return f"<Function '{self.name}' of {self.origin}>"


@dataclass(frozen=True, slots=True)
class _ByName:
    """A function that `@tool` has replaced in its module by a tool."""

    module: str
    name: str

    def tool(self) -> Any:
        """Return what has the name now."""
        found: Any = importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part, None)
        return found


def checked_timeout(timeout: float | None, whose: str) -> float | None:
    """Return the timeout. Raises `ConfigurationError` unless it is more than 0."""
    if timeout is not None and not timeout > 0:
        raise ConfigurationError(f"{whose}: timeout must be more than 0 seconds, got {timeout!r}")
    return timeout


def _checked(entrypoint: Any) -> Callable[..., Any]:
    """Return the callable. Raises `ConfigurationError` for an object that can't be a tool."""
    if isinstance(entrypoint, staticmethod):
        entrypoint = entrypoint.__func__
    if isinstance(entrypoint, classmethod):
        raise ConfigurationError("a classmethod can't be a tool: write a plain function that calls it")
    if inspect.isclass(entrypoint):
        raise ConfigurationError(
            f"{entrypoint.__qualname__} is a class, not a tool: pass an instance, {entrypoint.__name__}()"
        )
    if not callable(entrypoint):
        raise ConfigurationError(f"{entrypoint!r} ({type(entrypoint).__name__}) is not callable, so it can't be a tool")
    return entrypoint  # type: ignore[no-any-return]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"invalid tool name {name!r}: use 1 to 64 of a-z, A-Z, 0-9, '_' and '-'; pass name=")
    return name


def _checked_schema(schema: dict[str, Any] | None, tool: str) -> dict[str, Any] | None:
    if schema is not None and schema.get("type") != "object":
        raise ConfigurationError(f"tool '{tool}': parameters must be a JSON schema with type 'object', got {schema!r}")
    return schema


def _name_of(function: Any) -> str:
    while (inner := getattr(function, "func", EMPTY)) is not EMPTY and not hasattr(function, "__name__"):
        function = inner
    return str(getattr(function, "__name__", type(function).__name__))


def _doc_of(function: Callable[..., Any]) -> str | None:
    """Return the docstring of the callable, or of its class if it is an object."""
    plain = unwrap(function)
    if text := inspect.getdoc(plain):
        return text
    return inspect.getdoc(type(function)) if plain is unwrap(type(function).__call__) else None
