"""`desist mcp`: serve workflows and agents as MCP tools over stdin and stdout."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["mcp"]


def mcp(
    targets: Annotated[
        list[str], typer.Argument(help="Workflows and agents: module:name, or file.py:name.", metavar="TARGET...")
    ],
    db: Annotated[str | None, typer.Option(help="A SQLite file, for components without a db.")] = None,
) -> None:
    """Serve workflows and agents as tools to an MCP client that starts this command."""
    from desist.cli.commands.serve import database
    from desist.cli.import_target import load
    from desist.exceptions import MissingExtraError
    from desist.workflow.workflow import Workflow

    try:
        from desist.server.protocols.mcp.stdio import serve_stdio
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("mcp", "starlette")):
            raise
        raise MissingExtraError("desist mcp", "mcp") from error
    found = [load(target) for target in targets]
    workflows = [one for one in found if isinstance(one, Workflow)]
    agents = [one for one in found if not isinstance(one, Workflow)]
    raise typer.Exit(serve_stdio(workflows, agents, database(db)))
