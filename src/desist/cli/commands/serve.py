"""`desist serve` and `desist mcp`: serve workflows and agents over HTTP, or over stdin and stdout."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from desist.run.storage.store import Database
    from desist.server.tokens import Token

__all__ = ["mcp", "serve"]


def serve(
    targets: Annotated[
        list[str], typer.Argument(help="Workflows and agents: module:name, or file.py:name.", metavar="TARGET...")
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on. Other than loopback needs tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free port.", min=0, max=65535)] = 8000,
    db: Annotated[str | None, typer.Option(help="A SQLite file, for components without a db.")] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(help="A secret with all scopes; can be repeated.", envvar="DESIST_TOKEN"),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="A TOML file: [name], secret, and owner or scopes.", metavar="FILE.toml")
    ] = None,
    drain: Annotated[float, typer.Option(help="Seconds that live runs may continue after SIGTERM.", min=0.0)] = 30.0,
    cors: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may send requests; can be repeated.")
    ] = None,
    a2a: Annotated[bool, typer.Option("--a2a", help="Serve A2A at /a2a.")] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Serve MCP at /mcp.")] = False,
    stacks: Annotated[bool, typer.Option("--stacks", help="Include file names and source lines in responses.")] = False,
    connections: Annotated[int, typer.Option(help="Maximum of open connections.", min=1)] = 1000,
    per_address: Annotated[
        int, typer.Option(help="Maximum of open connections of one address; behind a proxy, of all clients.", min=1)
    ] = 250,
) -> None:
    """Serve workflows and agents over HTTP: start, follow and cancel runs."""
    from desist.cli.import_target import load_all
    from desist.server import Limits, create_app
    from desist.server import serve as run_server

    workflows, agents = load_all(targets)
    known = _tokens(token or [], tokens)
    app = create_app(
        workflows=workflows,
        agents=agents,
        db=_database(db),
        tokens=known,
        cors_origins=cors or (),
        a2a=a2a,
        mcp=mcp,
        stacks=stacks,
        limits=Limits(connections=connections, connections_per_address=per_address),
    )
    raise typer.Exit(run_server(app, host=host, port=port, secured=bool(known), drain=drain))


def mcp(
    targets: Annotated[
        list[str], typer.Argument(help="Workflows and agents: module:name, or file.py:name.", metavar="TARGET...")
    ],
    db: Annotated[str | None, typer.Option(help="A SQLite file, for components without a db.")] = None,
) -> None:
    """Serve workflows and agents as tools to an MCP client that starts this command."""
    from desist.cli.import_target import load_all
    from desist.exceptions import MissingExtraError

    try:
        from desist.server.protocols.mcp.stdio import serve_stdio
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("mcp", "starlette")):
            raise
        raise MissingExtraError("desist mcp", "mcp") from error
    workflows, agents = load_all(targets)
    raise typer.Exit(serve_stdio(workflows, agents, _database(db)))


def _database(path: str | None) -> Database | None:
    """Return the SQLite database of `--db`, or None."""
    if path is None:
        return None
    from desist.db import SqliteDb

    return SqliteDb(path)


def _warn_of_readers(file: Path) -> None:
    """Warn if other users of this machine can read or write the file."""
    from desist.cli.options import write

    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return  # `_tokens` raises the error
    if mode & 0o077:
        write(f"warning: {file} contains secrets and has mode {mode:04o}: use chmod 600", error=True)


def _tokens(secrets: list[str], file: Path | None) -> list[Token]:
    import tomllib

    from desist.exceptions import ConfigurationError
    from desist.server import Token

    made = [Token(secret=secret, name=f"token {number}") for number, secret in enumerate(secrets, 1)]
    if file is None:
        return made
    _warn_of_readers(file)
    try:
        known = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    for name, fields in known.items():
        unknown = set(fields) - {"secret", "owner", "scopes"} if isinstance(fields, dict) else {"a value"}
        if unknown or "secret" not in fields:
            raise ConfigurationError(
                f"{file}: [{name}] must have secret, and may have owner and scopes, but no other keys"
            )
        made.append(Token(name=name, **fields))
    return made
