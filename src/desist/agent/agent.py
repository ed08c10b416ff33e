"""`Agent`: a model with instructions and tools."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from desist.agent.config import AgentConfig, Instructions
from desist.agent.paused_calls import check_edit
from desist.agent.run_body import AgentRunBody
from desist.agent.terminal_events import terminal_event
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.models.base import Model
from desist.run.agent import RunOutput, RunOutputEvent
from desist.run.component.awaitable import awaitable
from desist.run.component.component import Component
from desist.run.component.options import AgentOptions, apply_limits
from desist.run.component.pause_continuation import TakenRun
from desist.run.component.step_opening import take_opening
from desist.run.execution.run import Run, new_id
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import check_input
from desist.run.records.ids import id_text
from desist.run.records.message import Message
from desist.run.records.requirement import Answer, Requirement
from desist.run.records.run_requirement import RunRequirement
from desist.run.storage.store import Database, RunStore
from desist.streams.reader import AsyncReader, SyncReader
from desist.tools.resolve import resolve_tools
from desist.value_type import ValueType

if TYPE_CHECKING:
    from desist.tools.function import Function
    from desist.tools.toolkit import Toolkit

__all__ = ["Agent"]


class Agent(Component[RunOutput, RunOutputEvent]):
    """A model with instructions and tools, run turn by turn.

    Parameters:
        name: the name in events and logs.
        model: the language model; `check()` of it is called before every run.
        id: a stable id; made from the name if None.
        instructions: for the system message: text, lines, or a function (sync or async) that returns them.
        description: the first part of the system message.
        role: its role, part of the system message.
        expected_output: a description of a good answer, part of the system message.
        tools: callables, `Function`s, `Toolkit`s.
        tool_choice: "auto", "none", "required", or a function definition, as the provider has it.
        tool_call_limit: how many tool calls a run may make; further calls get an error as result.
        markdown: ask for Markdown, and render it in `print_response`.
        output_schema: the type of `output.content`: whatever pydantic's `TypeAdapter` takes, such as a class, a
            dataclass, `list[City]` or `City | None`; or a JSON schema, for which the content is plain JSON values.
        session_state: the initial `session_state` of a session, shared by tools. Each run works on the dict that it is
            given, or a new one, with the state that the earlier runs of the session left.
        overwrite_db_session_state: a run ignores the stored state, and replaces it at its end.
        add_session_state_to_context: put the state at the start of the run into the system message.
        add_history_to_context: give the model the messages of the session's last runs, also of cancelled ones.
        num_history_runs: how many runs that is.
        dependencies: tools get it as `dependencies`.
        metadata: stored with the run.
        retries: how often a failed run starts again, if the error is retryable.
        delay_between_retries: seconds; a cancel ends the wait.
        exponential_backoff: double the delay each time.
        timeout: seconds after which a run is cancelled, with source `deadline`.
        stall_timeout: seconds without a chunk from the model after which it is cancelled, with source `stall`.
        grace: seconds for cleanup after a cancel, before calls that still run are abandoned.
        on_cancel: a function that cleans up after a cancel, called with the output.
        db: the database of runs and sessions, such as `SqliteDb(...)`. None keeps the last ones in memory; inside
            a workflow they are stored with the workflow's.
        stream, stream_events: defaults of `run`.
        user_id, session_id: defaults of `run`. Without any session id, an agent with a `db`, or with its history in
            the context, keeps one session for all its runs; else each run has its own.
        debug_mode: write the log of desist, from level DEBUG on, to standard error.
        telemetry: accepted for compatibility; desist sends nothing.

    Raises:
        ConfigurationError: a value can't be used; the message names it.
        UnsupportedError: a parameter that desist doesn't have.
    """

    _kind = "agent"
    _described = "an Agent"
    options_type = AgentOptions
    _resolved: tuple[list[Any], dict[str, Function]] | None = None
    _answer_type: ValueType | None = None

    def __init__(
        self,
        model: Model | None = None,
        *,
        name: str | None = None,
        id: str | None = None,
        instructions: Instructions | None = None,
        description: str | None = None,
        role: str | None = None,
        expected_output: str | None = None,
        tools: list[Callable[..., Any] | Function | Toolkit] | None = None,
        tool_choice: str | dict[str, Any] | None = None,
        tool_call_limit: int | None = None,
        markdown: bool = False,
        output_schema: Any = None,
        session_state: dict[str, Any] | None = None,
        overwrite_db_session_state: bool = False,
        add_session_state_to_context: bool = False,
        add_history_to_context: bool = False,
        num_history_runs: int = 3,
        dependencies: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        retries: int = 0,
        delay_between_retries: float = 1.0,
        exponential_backoff: bool = False,
        timeout: float | None = None,
        stall_timeout: float | None = None,
        grace: float | None = None,
        on_cancel: Callable[..., Any] | None = None,
        db: Database | RunStore | None = None,
        stream: bool = False,
        stream_events: bool = False,
        user_id: str | None = None,
        session_id: str | None = None,
        debug_mode: bool = False,
        telemetry: bool = True,
    ) -> None:
        if model is not None and not isinstance(model, Model):
            raise ConfigurationError(f"model= of an Agent must be a Model such as OpenAIChat(...), not {model!r:.80}")
        self.model = model
        self.name = name
        self.id = id_text(id, "id") or (name or "agent").lower().replace(" ", "-")
        self.instructions = instructions
        self.description = description
        self.role = role
        self.expected_output = expected_output
        self.tools = list(tools or [])
        self.tool_choice = tool_choice
        self.tool_call_limit = tool_call_limit
        self.markdown = markdown
        self.output_schema = output_schema
        self.session_state = session_state
        self.overwrite_db_session_state = overwrite_db_session_state
        self.add_session_state_to_context = add_session_state_to_context
        self.add_history_to_context = add_history_to_context
        self.num_history_runs = num_history_runs
        self.dependencies = dependencies
        self.metadata = metadata
        self.retries = retries
        self.delay_between_retries = delay_between_retries
        self.exponential_backoff = exponential_backoff
        self.timeout = timeout
        self.stall_timeout = stall_timeout
        self.grace = grace
        self.on_cancel = on_cancel
        self.db = db
        self.stream = stream
        self.stream_events = stream_events
        self.user_id = user_id
        self.session_id = session_id
        self.debug_mode = debug_mode
        self.telemetry = telemetry
        self._set_up()
        self.functions()  # raises now, not during a run, if a tool can't be described
        self.answer_type()

    # -- what a run needs

    def require_model(self) -> Model:
        """Return the model, ready to be called.

        Raises:
            ConfigurationError: there is none, or it lacks a key.
        """
        if self.model is None:
            raise ConfigurationError(f"agent {self.name or self.id!r} has no model: give it one, model=OpenAIChat(...)")
        self.model.check()
        return self.model

    def functions(self) -> dict[str, Function]:
        """Return the tools by name. Described once, and again when `tools` was changed."""
        if self._resolved is None or self._resolved[0] != self.tools:
            self._resolved = (list(self.tools), resolve_tools(self.tools))
        return self._resolved[1]

    def answer_type(self) -> ValueType | None:
        """Return the type of answers. Read once, and again when `output_schema` was changed.

        Raises:
            ConfigurationError: the model can't be asked for it.
        """
        if self.output_schema is None:
            return None
        if self._answer_type is None or self._answer_type.given is not self.output_schema:
            self._answer_type = ValueType(self.output_schema, f"output_schema= of agent {self.name or self.id!r}")
        return self._answer_type

    def config(self) -> AgentConfig:
        """Return the settings of a run that is opened now."""
        return AgentConfig(
            agent=self,
            id=self.id,
            name=self.name,
            model=self.require_model(),
            functions=self.functions(),
            instructions=self.instructions,
            description=self.description,
            role=self.role,
            expected_output=self.expected_output,
            markdown=self.markdown,
            answer_type=self.answer_type(),
            tool_choice=self.tool_choice,
            tool_call_limit=self.tool_call_limit,
            add_session_state_to_context=self.add_session_state_to_context,
            add_history_to_context=self.add_history_to_context,
            num_history_runs=self.num_history_runs,
            retries=self.retries,
            delay_between_retries=self.delay_between_retries,
            exponential_backoff=self.exponential_backoff,
            stall_timeout=self.stall_timeout,
            on_cancel=self.on_cancel,
        )

    def body(self, input: Any, parent: ParentContext, *, has_reader: bool, stream_events: bool = False) -> AgentRunBody:
        """Return the body of one run of this agent. For steps; programs call `run`."""
        check_input(input, f"agent {self.name or self.id!r}", required=True)
        return AgentRunBody(self.config(), input, parent, has_reader=has_reader, stream_events=stream_events)

    def open(
        self,
        body: AgentRunBody,
        *,
        run_id: str | None = None,
        bound: bool = False,
        skip: bool = False,
        replay: bool = False,
    ) -> Run:
        """Register a run of `body`. For steps; programs call `run`."""
        run = self._register(body, run_id or new_id(), bound=bound, skip=skip, replay=replay)
        with run.withdrawn_on_error():
            run.limits.set_deadline(self.timeout, f"the timeout of agent {self.name or self.id!r}")
        return run

    def _open(
        self,
        input: Any,
        options: dict[str, Any],
        *,
        stream: bool,
        stream_events: bool | None,
        replay: bool = False,
        earlier: RunOutput | None = None,
    ) -> Run:
        if (opening := take_opening(self)) is not None:
            return opening.open(input, options, stream=stream)
        events = self.stream_events if stream_events is None else stream_events
        history = _either(options["add_history_to_context"], self.add_history_to_context)
        parent = self._parent_context(options, lasting=self.db is not None or history)
        body = self.body(input, parent, has_reader=stream, stream_events=stream and events)
        body.on_cancel = options["on_cancel"]
        body.add_history = history
        body.add_state = _either(options["add_session_state_to_context"], self.add_session_state_to_context)
        body.in_session = SessionBinding(
            "agent", self.id, parent, defaults=self.session_state, overwrite=self.overwrite_db_session_state
        )
        paused: TakenRun | None = options.get("paused")
        if paused is not None:
            assert earlier is not None
            body.resume_from(earlier, paused.requirements, paused.stored.next_event)
        elif earlier is not None:
            body.continue_from(earlier)
        run = self.open(body, run_id=options["run_id"], replay=replay)
        with run.withdrawn_on_error():
            apply_limits(run, options)
        self._last_session = parent.session_id
        return run

    def _input_of(self, output: RunOutput) -> Any:
        return output.input.input_content if output.input is not None else None

    def check_answer(self, requirement: Requirement, answer: Answer) -> None:
        """Raise `ConfigurationError` if edited arguments don't fit the tool. For services."""
        if answer.decision == "edit":
            name = requirement.asked.get("tool_name") or ""
            check_edit(self.functions().get(name), answer.arguments or {}, f"requirement {requirement.requirement_id}")

    def answers_in(self, output: Any, given: Mapping[str, Any]) -> dict[str, Answer]:
        """Return the answers in `requirements`, `updated_tools` or the output of a paused run. For services."""
        if "step_requirements" in given:
            raise UnsupportedError("continue_run() of an Agent takes no step_requirements: give requirements=")
        found: Any = given.get("requirements")
        if found is None:
            found = getattr(output, "requirements", None) or []
        requirements = [one if isinstance(one, RunRequirement) else RunRequirement.from_dict(one) for one in found]
        # Programs also set the answer in the tool calls, which are other objects in an output that was stored.
        tools = {tool.tool_call_id: tool for tool in given.get("updated_tools") or getattr(output, "tools", None) or ()}
        for one in requirements:
            if one.to_answer() is None and one.tool_execution is not None and one.tool_execution.tool_call_id in tools:
                one.tool_execution = tools[one.tool_execution.tool_call_id]
        made = {one.id: one.to_answer() for one in requirements}
        return {requirement_id: answer for requirement_id, answer in made.items() if answer is not None}

    def terminal_event(self, output: RunOutput) -> Any:
        """Return the terminal event of a run that has ended, made from its output."""
        return terminal_event(output)

    # -- running

    @overload
    def run(
        self, input: Any, *, stream: Literal[True], stream_events: bool | None = None, **options: Unpack[AgentOptions]
    ) -> SyncReader[RunOutputEvent]: ...
    @overload
    def run(
        self, input: Any, *, stream: Literal[False] | None = None, **options: Unpack[AgentOptions]
    ) -> RunOutput: ...
    @overload
    def run(
        self,
        input: Any,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        **options: Unpack[AgentOptions],
    ) -> RunOutput | SyncReader[RunOutputEvent]: ...

    def run(
        self,
        input: Any,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[AgentOptions],
    ) -> Any:
        """Run the agent from any thread.

        Parameters:
            input: a text, a dict, a list or a pydantic object.
            stream: return an iterator over events instead of the output. Everything is checked and registered now.
            stream_events: show tool calls, model requests and the like too, not only text and the end.
            background: refused here; see `arun`.
            options: see `desist.run.component.options.AgentOptions`.

        Returns:
            RunOutput, or an iterator over events whose last one is terminal.

        Raises:
            ConfigurationError: something is missing or wrong; nothing has run.
            UnsupportedError: an option that desist doesn't have.
            RunIdInUseError: a live run has this id.
        """
        return self._start(input, options, stream, stream_events, background)

    @overload
    def arun(
        self,
        input: Any,
        *,
        stream: Literal[True],
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[AgentOptions],
    ) -> AsyncReader[RunOutputEvent]: ...
    @overload
    def arun(
        self,
        input: Any,
        *,
        stream: Literal[False] | None = None,
        background: bool = False,
        **options: Unpack[AgentOptions],
    ) -> Coroutine[Any, Any, RunOutput]: ...
    @overload
    def arun(
        self,
        input: Any,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[AgentOptions],
    ) -> Coroutine[Any, Any, RunOutput] | AsyncReader[RunOutputEvent]: ...

    def arun(
        self,
        input: Any,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[AgentOptions],
    ) -> Any:
        """Run the agent on the caller's event loop. Parameters and errors as for `run`.

        Parameters:
            background: don't wait for the end; see `Workflow.arun`.

        Returns:
            With `stream=True` an async iterator over events, called without await; else a coroutine. In the
            background that gives the output as it is before the run begins, `PENDING`.
        """
        return self._astart(input, options, stream, stream_events, background)

    # -- reading sessions, printing

    def get_session_messages(
        self, session_id: str | None = None, user_id: str | None = None, **chosen: Any
    ) -> list[Message]:
        """Return what was said in a session: see `AgentSession.get_messages`, whose parameters it takes."""
        session = self.get_session(session_id, user_id)
        return session.get_messages(**chosen) if session is not None else []

    def get_chat_history(self, session_id: str | None = None, last_n_runs: int | None = None) -> list[Message]:
        """Return what the user and the agent said in a session, without tool calls and their results."""
        session = self.get_session(session_id)
        return session.get_chat_history(last_n_runs) if session is not None else []

    aget_session_messages = awaitable(get_session_messages)  # type: ignore[arg-type]  # mypy: self isn't / here
    aget_chat_history = awaitable(get_chat_history)

    def print_response(self, input: Any, *, stream: bool = True, markdown: bool | None = None, **options: Any) -> None:
        """Run and show it in the terminal, live. Takes the options of `run`, and `console=` (rich)."""
        from desist.agent.print_response import print_response

        print_response(self, input, stream=stream, markdown=self.markdown if markdown is None else markdown, **options)

    async def aprint_response(
        self, input: Any, *, stream: bool = True, markdown: bool | None = None, **options: Any
    ) -> None:
        """Do the same on the caller's event loop."""
        from desist.agent.print_response import aprint_response

        rendered = self.markdown if markdown is None else markdown
        await aprint_response(self, input, stream=stream, markdown=rendered, **options)


def _either(requested: bool | None, default: bool) -> bool:
    return default if requested is None else requested
