"""`desist show`: one run, whole."""

from __future__ import annotations

from desist.cli.completion import Run
from desist.cli.options import AsJson, Db, Server, Token, depot, say

__all__ = ["show"]


def show(run: Run, as_json: AsJson = False, db: Db = None, server: Server = None, token: Token = None) -> None:
    """Show a run: status, times, how it was stopped, steps, what it said. Exit code 3: there is no such run."""
    from desist.cli.client import Life

    with depot(db, server, token) as place:
        found = place.run(run)
        life = place.life(run) if found.is_live or found.cancel else Life()
    if as_json:
        say(found.plain())
        return
    from desist.cli.render import card, paper

    console = paper()
    console.print(card(found, life, console))
