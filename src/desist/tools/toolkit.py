"""`Toolkit`: tools that share state and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.options.strict import refuse_unknown
from desist.tools.function import NOT_YET, Function, checked_timeout
from desist.tools.isolation import Isolation, check_options

__all__ = ["Toolkit"]


class Toolkit:
    """A named set of tools.

    A subclass passes its methods as `tools`, or marks them with `@tool`.
    """

    def __init__(
        self,
        name: str = "toolkit",
        tools: Iterable[Callable[..., Any]] | None = None,
        *,
        async_tools: Iterable[Callable[..., Any] | tuple[Callable[..., Any], str]] | None = None,
        instructions: str | None = None,
        add_instructions: bool = False,
        include_tools: Sequence[str] | None = None,
        exclude_tools: Sequence[str] | None = None,
        stop_after_tool_call_tools: Sequence[str] | None = None,
        show_result_tools: Sequence[str] | None = None,
        timeout: float | None = None,
        isolation: Isolation | None = None,
        auto_register: bool = True,
        requires_confirmation_tools: Sequence[str] | None = None,
        external_execution_required_tools: Sequence[str] | None = None,
        **unsupported: Any,
    ) -> None:
        """Create a toolkit.

        Args:
            tools: callables or `Function`s. None: the methods that are marked with `@tool`.
            async_tools: async callables, or pairs of callable and name. Each replaces the tool with the same name.
            instructions: text for the system prompt, added if `add_instructions`.
            include_tools: names of the only tools to offer.
            exclude_tools: names of tools not to offer.
            stop_after_tool_call_tools: names of tools after which the agent's run ends.
            show_result_tools: names of tools whose result is shown to the reader.
            timeout: seconds that a call may take, for tools without a timeout.
            isolation: "thread" or "process", for sync tools without an isolation. With "process" the toolkit is pickled
                for each call, without its tools.
            auto_register: False to register all tools with `register()`.
            requires_confirmation_tools: names of tools that a human must confirm before each call.
            external_execution_required_tools: names of tools that the program executes.

        Raises:
            ConfigurationError: an unknown or duplicate tool name, or an object that can't be a tool.
            UnsupportedError: an unknown parameter.
        """
        refuse_unknown(f"toolkit '{name}'", unsupported, unless_off=NOT_YET)
        self.name = name
        self.instructions = instructions
        self.add_instructions = add_instructions
        self.timeout = checked_timeout(timeout, f"toolkit '{name}'")
        check_options(isolation, "auto", None, f"toolkit '{name}'")
        self.isolation = isolation
        self._named = {
            "include_tools": _names(include_tools, "include_tools"),
            "exclude_tools": _names(exclude_tools, "exclude_tools"),
            "stop_after_tool_call_tools": _names(stop_after_tool_call_tools, "stop_after_tool_call_tools"),
            "show_result_tools": _names(show_result_tools, "show_result_tools"),
            "requires_confirmation_tools": _names(requires_confirmation_tools, "requires_confirmation_tools"),
            "external_execution_required_tools": _names(
                external_execution_required_tools, "external_execution_required_tools"
            ),
        }
        self._includes_all = include_tools is None
        self._registered: dict[str, Function] = {}
        if auto_register:
            self._register_all(tools, async_tools)

    @property
    def functions(self) -> dict[str, Function]:
        """The selected tools by name."""
        excluded, included = self._named["exclude_tools"], self._named["include_tools"]
        return {
            name: function
            for name, function in self._registered.items()
            if name not in excluded and (self._includes_all or name in included)
        }

    def get_functions(self) -> dict[str, Function]:
        """Return the selected tools by name.

        Raises:
            ConfigurationError: `include_tools` or another list has the name of no registered tool.
        """
        self._check_names()
        return self.functions

    def register(self, function: Callable[..., Any], name: str | None = None) -> Function:
        """Add a tool and return it.

        Raises:
            ConfigurationError: the object can't be a tool, or the name is in use.
        """
        return self._add(_to_function(function, name), replace=False)

    def _register_all(
        self,
        tools: Iterable[Callable[..., Any]] | None,
        async_tools: Iterable[Callable[..., Any] | tuple[Callable[..., Any], str]] | None,
    ) -> None:
        for one in self._marked() if tools is None and async_tools is None else tools or ():
            self.register(one)
        for item in async_tools or ():
            function = _to_function(*item) if isinstance(item, tuple) else _to_function(item)
            if not function.is_async:
                raise ConfigurationError(
                    f"toolkit '{self.name}': '{function.name}' in async_tools is not async: pass it in tools"
                )
            self._add(function, replace=True)
        if self._registered:
            self._check_names()

    def _marked(self) -> list[Function]:
        """Return the bound methods that are marked with `@tool`, in order of definition."""
        names = dict.fromkeys(name for cls in reversed(type(self).__mro__) for name in vars(cls))
        kinds = {name: getattr(type(self), name, None) for name in names}
        return [getattr(self, name) for name, kind in kinds.items() if isinstance(kind, Function)]

    def _add(self, function: Function, *, replace: bool) -> Function:
        taken = self._registered.get(function.name)
        if taken is not None and (not replace or taken.is_async):
            raise ConfigurationError(
                f"toolkit '{self.name}' has two tools named '{function.name}': {taken.origin} and {function.origin}"
            )
        function = function.copy()
        function.owning_toolkit = self
        if function.timeout is None:
            function.timeout = self.timeout
        if function.isolation is None and not function.is_async:
            function.isolation = self.isolation
            function.check_isolation(defined=False)
        if function.name in self._named["stop_after_tool_call_tools"]:
            function.stop_after_tool_call = True
        if function.name in self._named["show_result_tools"]:
            function.show_result = True
        confirm = function.name in self._named["requires_confirmation_tools"]
        external = function.name in self._named["external_execution_required_tools"]
        if confirm or external:
            function.human = function.human.extended(function.name, confirm=confirm, external=external)
        self._registered[function.name] = function
        return function

    def _check_names(self) -> None:
        for parameter, names in self._named.items():
            if unknown := [name for name in names if name not in self._registered]:
                raise ConfigurationError(
                    f"toolkit '{self.name}': {parameter} has unknown names: {', '.join(map(repr, unknown))};"
                    " the tools are: " + (", ".join(self._registered) or "none")
                )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: all attributes except the tools, which the other process imports by name."""
        return vars(self) | {"_registered": {}}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} '{self.name}': {', '.join(self.functions) or 'no tools'}>"


def _to_function(function: Callable[..., Any], name: str | None = None) -> Function:
    """Return a `Function` for the callable. A `Function` is copied if it is renamed."""
    if isinstance(function, Function) and name is not None:
        function = function.copy()
        function.name = name
        return function
    return Function.from_callable(function, name)


def _names(names: Sequence[str] | None, parameter: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigurationError(f"{parameter} must be a list of names, got the string {names!r}")
    return tuple(names or ())
