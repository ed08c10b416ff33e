"""The tools of an MCP server, for an agent: a toolkit that is connected before the agent is made. Extra `mcp`.

A call that is cancelled is left at once, and the server is told. What the server then does can't be known.
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
from desist.runtime.background_loop import background_loop
from desist.tools.function import Function
from desist.tools.mcp_session import MCPSession, by_command, by_url
from desist.tools.toolkit import Toolkit

__all__ = ["MCPTools"]

Transport = Literal["stdio", "streamable-http", "sse"]


class MCPTools(Toolkit):
    """The tools of one MCP server.

    Use it as a context manager, `async with` or `with`, or call `connect()` and `close()`. While it is connected an
    agent can be made with it. Runs of sync and of async code can use it.
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
        """Say where the server is: by exactly one of `command`, `url` and `session`.

        Args:
            command: starts a server that speaks over stdin and stdout; it and all that it starts end with `close()`.
            url: where a server is asked over HTTP.
            env: variables for the command, beside a few safe ones such as PATH.
            headers: for the URL.
            transport: "stdio" for a command; for a URL "streamable-http", or "sse" for an old server.
            session: a `ClientSession` of the MCP SDK, which is the caller's to close.
            timeout_seconds: for connecting, and for each call.
            tool_name_prefix: put before the names of the tools, with `_`.
            include_tools, exclude_tools: names as agents see them, with the prefix.
            toolkit: what `Toolkit` takes.

        Raises:
            MissingExtraError: the MCP SDK isn't installed.
            ConfigurationError: something here can't work.
        """
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtraError("MCPTools", "mcp")
        if sum(given is not None for given in (command, url, session)) != 1:
            raise ConfigurationError("MCPTools needs exactly one of command=, url= and session=")
        fitting = {"stdio"} if command is not None else {"streamable-http", "sse"} if url is not None else set()
        if transport is not None and transport not in fitting:
            known = " or ".join(sorted(fitting)) or "none"
            raise ConfigurationError(f"MCPTools: transport={transport!r} doesn't fit: leave it out, or give {known}")
        if (env and command is None) or (headers and url is None):
            raise ConfigurationError("MCPTools: env= goes with command=, headers= with url=")
        given = {"include_tools": include_tools, "exclude_tools": exclude_tools, "timeout": timeout_seconds}
        super().__init__(tools=[], **{"name": "mcp", **given, **toolkit})
        self._command, self._url, self._given = shlex.split(command or ""), url, session
        if command is not None and not self._command:
            raise ConfigurationError("MCPTools: command= is empty")
        self._env, self._headers = dict(env or {}), dict(headers or {})
        self._transport = transport or "streamable-http"
        self._prefix = f"{tool_name_prefix}_" if tool_name_prefix else ""
        self._seconds = timeout_seconds
        self._session: MCPSession | None = None

    # -- connecting

    async def connect(self) -> None:
        """Connect, and learn which tools there are.

        Raises:
            ConfigurationError: the server can't be reached in time, or a tool of it can't be offered.
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
        """End the session; return when the server, if it was started here, and all its processes are gone."""
        session, self._session = self._session, None
        self._registered.clear()
        if session is not None:
            await session.leave()

    def _new_session(self) -> MCPSession:
        if self._given is not None:
            return MCPSession(lambda: contextlib.nullcontext(self._given), loop=asyncio.get_running_loop())
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
        if self._given is not None:
            raise ConfigurationError("MCPTools: session= lives on a loop: use `async with`")
        background_loop.ensure_not_on_loop()
        asyncio.run_coroutine_threadsafe(self.connect(), background_loop.loop()).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), background_loop.loop()).result()

    # -- tools

    def get_functions(self) -> dict[str, Function]:
        """Return the tools on offer, by name.

        Raises:
            ConfigurationError: it isn't connected.
        """
        if self._session is None:
            raise ConfigurationError(f"MCPTools: {self._where} isn't connected: make the agent inside `async with`")
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
            raise ToolError(f"{self._where} isn't connected any more")
        try:
            result = await self._session.call(name, arguments)
        except Exception as error:
            raise ToolError(f"{self._where}: {_format_error(error)}") from error
        text = "\n".join(_block_text(block) for block in result.content)
        if result.is_error:
            raise ToolError(text or "the tool failed")
        return text


def _format_error(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):  # as task groups raise them
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _block_text(block: Any) -> str:
    """Return a part of a result as text; what isn't text is named."""
    if block.type == "text":
        return str(block.text)
    if block.type == "resource" and getattr(block.resource, "text", None) is not None:
        return str(block.resource.text)
    if block.type == "resource_link":
        return str(block.uri)
    return f"[{block.type} {getattr(block, 'mime_type', None) or ''}]".replace(" ]", "]")
