"""Answers the requests of MCP clients. A tool call is a run; when the client cancels the call, the run is cancelled.

Depending on transport and version, a client cancels with `notifications/cancelled`, by closing the stream of the
response, or by disconnecting. In all three cases the SDK cancels the handler, which then waits until the run has
settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from desist.cancel.reason import CancelReason, Source
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.exceptions import DesistError
from desist.run.events.base import content_text
from desist.run.records.ids import new_id
from desist.run.records.json_values import to_json_value
from desist.run.storage.store import StoredRun
from desist.server.components import Component
from desist.server.problems import HTTPProblem
from desist.server.protocols.mcp.tools import mcp_tools, parse_input, schema_of
from desist.server.run_service import RunService, StartOptions
from desist.server.tokens import Caller
from desist.streams.channel import ChannelClosed

__all__ = ["MCPHandler"]

_BATCH = 64
_SESSION = "mcp-session-id"
_LEFT = "the client that called the tool disconnected"

Key = tuple[str | None, str]


@dataclass(slots=True)
class _Call:
    """A running tool call."""

    run_id: str
    starting: asyncio.Future[Any] | None = None
    cancelled: bool = False  #: the client sent a notification
    reason: str | None = None


class MCPHandler:
    """The tool calls of a server.

    Parameters:
        service: starts and cancels the runs.
        caller_of: returns the caller from the context of a request.
    """

    def __init__(self, service: RunService, caller_of: Callable[[Any], Caller]) -> None:
        self._service, self._caller_of = service, caller_of
        self._offered = mcp_tools(service.components)
        self._running: dict[Key, _Call] = {}

    def server(self) -> Server[Any]:
        """Return the SDK's server, for any transport."""
        server: Server[Any] = Server(
            "desist", version=version("desist"), on_list_tools=self._list, on_call_tool=self._call
        )
        server.middleware.append(self._note_cancellation)
        return server

    async def _list(self, ctx: Any, params: Any) -> types.ListToolsResult:
        tools = [
            types.Tool(name=name, title=one.name, description=one.description, input_schema=schema_of(one))
            for name, one in self._offered.items()
        ]
        return types.ListToolsResult(tools=tools)

    async def _note_cancellation(self, ctx: Any, call_next: Any) -> Any:
        """Record the reason of a cancel notification for `_stop`, which reads it later."""
        if ctx.method == "notifications/cancelled" and ctx.params is not None:
            call = self._running.get(_key(ctx, ctx.params.get("requestId")))
            if call is not None:
                reason = ctx.params.get("reason")
                call.cancelled, call.reason = True, reason if isinstance(reason, str) else None
        return await call_next(ctx)

    async def _call(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        component = self._offered.get(params.name)
        if component is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r:.80}")
        caller = self._caller_of(ctx)
        # The run's id is chosen here, so that a cancel during the start finds it.
        call = _Call(new_id())
        key = _key(ctx, ctx.request_id)
        self._running[key] = call
        try:
            return await self._run(ctx, component, params.arguments or {}, call, caller)
        except (HTTPProblem, DesistError) as error:
            return _result(str(error), failed=True)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._stop(call, caller)
            raise
        finally:
            if self._running.get(key) is call:
                del self._running[key]

    async def _run(
        self, ctx: Any, component: Component, arguments: dict[str, Any], call: _Call, caller: Caller
    ) -> types.CallToolResult:
        if "run" not in caller.scopes:
            raise HTTPProblem(403, "this request needs a token with the scope 'run'")
        options = StartOptions(options={"run_id": call.run_id})
        start = self._service.start(component, parse_input(component, arguments), options, caller)
        call.starting = asyncio.ensure_future(start)
        await asyncio.shield(call.starting)  # a start is never interrupted: a cancelled run starts cancelled instead
        await self._follow(ctx, await self._service.runs.find(call.run_id, caller), caller)
        return _tool_result(await self._service.runs.find(call.run_id, caller))

    async def _follow(self, ctx: Any, found: StoredRun, caller: Caller) -> None:
        """Report progress until the run has ended."""
        follower = await self._service.follow(found, None)
        self._service.followers.joined(found.run_id, caller)
        count = 0
        try:
            while True:
                for event in await follower.cursor.get_nowait_async(_BATCH):
                    if (message := _progress(event)) is not None:
                        count += 1
                        await ctx.session.report_progress(count, message=message)
        except ChannelClosed:
            pass
        finally:
            follower.stop(Source.client_disconnected)
            self._service.followers.left(found.run_id, caller, lost=False)

    async def _stop(self, call: _Call, caller: Caller) -> None:
        """Cancel the run and wait until it has settled."""
        await asyncio.sleep(
            0
        )  # the SDK calls `_note_cancellation` one loop iteration after it has cancelled the handler
        await asyncio.sleep(0)
        if call.cancelled:
            reason = CancelReason(source=Source.user, text=call.reason, by=caller.name)
        else:
            reason = CancelReason(source=Source.client_disconnected, text=_LEFT, by="desist")
        registry.cancel(call.run_id, reason)  # a run that doesn't exist yet will start cancelled
        if call.starting is not None:
            await asyncio.wait({call.starting})
            if call.starting.exception() is None:
                await self._service.settle(registry.cancel(call.run_id, reason), self._service.limits.wait)


def _key(ctx: Any, request_id: Any) -> Key:
    session = ctx.request.headers.get(_SESSION) if ctx.request is not None else None
    return session, str(request_id)


def _progress(event: Any) -> str | None:
    if event.event == "StepStarted":
        return f"step {event.step_name}"
    if event.event == "ToolCallStarted":
        return f"tool {event.tool.tool_name}"
    return None


def _tool_result(run: StoredRun) -> types.CallToolResult:
    output, status = run.output, run.output.status
    if status is RunStatus.completed:
        return _result(content_text(to_json_value(output.content)), run_id=run.run_id)
    if status is RunStatus.cancelled:
        reason = output.cancel.reason if output.cancel is not None else None
        return _result(f"the run was cancelled: {reason}" if reason else "the run was cancelled", True, run.run_id)
    return _result(str(output.error or "the run failed"), True, run.run_id)


def _result(text: str, failed: bool = False, run_id: str | None = None) -> types.CallToolResult:
    meta: Any = {"desist/run_id": run_id} if run_id is not None else None
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=failed, _meta=meta)
