"""`MCPTools`: a toolkit with the tools of an MCP server, connected before the agent is created. Needs the extra `mcp`.

A cancelled call returns at once and notifies the server. Whether the server stops its work is up to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import shlex
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from desist.exceptions import ConfigurationError, MissingExtraError, ToolError
from desist.run.records.json_values import error_text
from desist.runtime.background_loop import background_loop
from desist.tools.function import Function
from desist.tools.mcp_session import MCPSession, by_command, by_url
from desist.tools.toolkit import Toolkit

__all__ = ["MCPTools"]

Transport = Literal["stdio", "streamable-http", "sse"]


class MCPTools(Toolkit):
    """The tools of one MCP server.

    Use the toolkit as a context manager (`async with` or `with`), or call `connect()` and `close()`. Create agents with
    it while it is connected. Both sync and async runs can use it.
    """

    def __init__(
        self,
        command: str | None = None,
        *,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        session: Any = None,
        timeout_seconds: float = 10,
        tool_name_prefix: str | None = None,
        include_tools: Sequence[str] | None = None,
        exclude_tools: Sequence[str] | None = None,
        **toolkit: Any,
    ) -> None:
        """Create the toolkit. Pass exactly one of `command`, `url` and `session`.

        Args:
            command: command line of a server that uses stdin and stdout. `close()` ends the server and all its child
                processes.
            url: URL of an HTTP server.
            env: environment variables for the command, in addition to a few safe ones such as PATH.
            headers: HTTP headers for the URL.
            transport: "stdio" for a command; "streamable-http" for a URL, or "sse" for an old server.
            session: a `ClientSession` of the MCP SDK. The caller must close it.
            timeout_seconds: timeout of connecting, and of each call.
            tool_name_prefix: prefix of the tool names, followed by `_`.
            include_tools, exclude_tools: tool names, including the prefix.
            toolkit: other options of `Toolkit`.

        Raises:
            MissingExtraError: the MCP SDK isn't installed.
            ConfigurationError: invalid or contradictory arguments.
        """
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtraError("MCPTools", "mcp")
        if sum(target is not None for target in (command, url, session)) != 1:
            raise ConfigurationError("MCPTools needs exactly one of command=, url= and session=")
        fitting = {"stdio"} if command is not None else {"streamable-http", "sse"} if url is not None else set()
        if transport is not None and transport not in fitting:
            known = " or ".join(sorted(fitting)) or "none"
            raise ConfigurationError(f"MCPTools: transport={transport!r} can't be used here: omit it, or use {known}")
        if (env and command is None) or (headers and url is None):
            raise ConfigurationError("MCPTools: env= needs command=, and headers= needs url=")
        options = {"include_tools": include_tools, "exclude_tools": exclude_tools, "timeout": timeout_seconds}
        super().__init__(tools=[], **{"name": "mcp", **options, **toolkit})
        self._command, self._url, self._client_session = shlex.split(command or ""), url, session
        if command is not None and not self._command:
            raise ConfigurationError("MCPTools: command= is empty: pass the command line of a server")
        self._env, self._headers = dict(env or {}), dict(headers or {})
        self._transport = transport or "streamable-http"
        self._prefix = f"{tool_name_prefix}_" if tool_name_prefix else ""
        self._seconds = timeout_seconds
        self._session: MCPSession | None = None

    # -- connecting

    async def connect(self) -> None:
        """Connect to the server and load its tools.

        Raises:
            ConfigurationError: the connection failed or timed out, or a tool is invalid.
        """
        if self._session is not None:
            return
        session = self._new_session()
        try:
            async with asyncio.timeout(self._seconds):
                tools = await session.enter()
        except Exception as error:
            raise ConfigurationError(
                f"MCPTools: {self._where} can't be connected to: {_format_error(error)}"
            ) from error
        self._session = session
        try:
            for tool in tools:
                self.register(self._function(tool))
            self._check_names()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the session. If this toolkit started the server, wait until all processes of the server have ended."""
        session, self._session = self._session, None
        self._registered.clear()
        if session is not None:
            await session.leave()

    def _new_session(self) -> MCPSession:
        if self._client_session is not None:
            return MCPSession(lambda: contextlib.nullcontext(self._client_session), loop=asyncio.get_running_loop())
        if self._url is not None:
            return MCPSession(by_url(self._url, self._headers, self._transport))
        make, mark = by_command(self._command, self._env)
        return MCPSession(make, mark=mark)

    @property
    def _where(self) -> str:
        return self._url or " ".join(self._command) or "the session"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> Self:
        if self._client_session is not None:
            raise ConfigurationError("MCPTools: session= belongs to an event loop: use `async with`")
        background_loop.ensure_not_on_loop()
        asyncio.run_coroutine_threadsafe(self.connect(), background_loop.loop()).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), background_loop.loop()).result()

    # -- tools

    def get_functions(self) -> dict[str, Function]:
        """Return the selected tools by name.

        Raises:
            ConfigurationError: the toolkit isn't connected.
        """
        if self._session is None:
            raise ConfigurationError(f"MCPTools: {self._where} isn't connected: create the agent inside `async with`")
        return super().get_functions()

    def _function(self, tool: Any) -> Function:
        async def call(**arguments: Any) -> str:
            return await self._call(tool.name, arguments)

        return Function(
            re.sub(r"[^a-zA-Z0-9_-]", "_", f"{self._prefix}{tool.name}")[:64],
            entrypoint=call,
            description=tool.description or tool.title or "",
            parameters={"type": "object", "properties": {}, **tool.input_schema},
        )

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        if self._session is None:
            raise ToolError(f"{self._where} is no longer connected")
        try:
            result = await self._session.call(name, arguments)
        except Exception as error:
            raise ToolError(f"{self._where}: {_format_error(error)}") from error
        text = "\n".join(_block_text(block) for block in result.content)
        if result.is_error:
            raise ToolError(text or "the tool failed")
        return text


def _format_error(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):  # raised by task groups of the SDK
        error = error.exceptions[0]
    return error_text(error)


def _block_text(block: Any) -> str:
    """Return one content block of a result as text. For other content, return its type in brackets."""
    if block.type == "text":
        return str(block.text)
    if block.type == "resource" and getattr(block.resource, "text", None) is not None:
        return str(block.resource.text)
    if block.type == "resource_link":
        return str(block.uri)
    return f"[{block.type} {getattr(block, 'mime_type', None) or ''}]".replace(" ]", "]")
