"""An MCP server for tests, over stdio. What happens to it, it tells through a FIFO that is named as the first argument.

With a second argument: "deaf" goes on when stdin has ended, and ignores SIGTERM; "mute" never answers anything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

REPORT = os.open(sys.argv[1], os.O_WRONLY)
MANNER = sys.argv[2] if len(sys.argv) > 2 else ""


def report(words: str) -> None:
    os.write(REPORT, f"{words}\n".encode())


async def tools(ctx: Any, params: Any) -> types.ListToolsResult:
    nothing = {"type": "object"}
    said = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    names = [("echo", said), ("wait", nothing), ("family", nothing), ("broken", nothing), ("die.now", nothing)]
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=f"The {name}.", input_schema=schema) for name, schema in names]
    )


async def call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = params.arguments or {}
    if params.name == "wait":
        report("began")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            report("cancelled")
            raise
    if params.name == "family":
        return result(str(family()))
    if params.name == "die.now":
        os._exit(1)
    if params.name == "broken":
        return types.CallToolResult(content=[types.TextContent(text="no luck")], is_error=True)
    report("echo")
    return result(arguments["text"])


def family() -> int:
    """Start a process in a session of its own; return its id."""
    return subprocess.Popen(["sleep", "3600"], start_new_session=True).pid


def result(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


async def main() -> None:
    server: Server[Any] = Server("peer", on_list_tools=tools, on_call_tool=call)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


report(f"pid {os.getpid()}")
if MANNER:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if MANNER != "mute":
    asyncio.run(main())
while MANNER:
    time.sleep(3600)
