"""`desist show`: show a run in full."""

from __future__ import annotations

from desist.cli.completion import Run
from desist.cli.options import AsJson, Db, Server, Token, client_from_options, print_json

__all__ = ["show"]


def show(run: Run, as_json: AsJson = False, db: Db = None, server: Server = None, token: Token = None) -> None:
    """Show a run: status, times, cancel record, steps, output. Exit code 3 if there is no such run."""
    from desist.cli.client import LiveInfo

    with client_from_options(db, server, token) as client:
        found = client.run(run)
        live = client.live_info(run) if found.is_live or found.cancel else LiveInfo()
    if as_json:
        print_json(found.plain())
        return
    from desist.cli.render import output_console, render_run

    console = output_console()
    console.print(render_run(found, live, console))
