"""`desist doctor`: check this machine and the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, Server, Token, print_json

if TYPE_CHECKING:
    from desist.cli.checks import CheckResult

__all__ = ["doctor"]

_SYMBOLS = {
    "ok": ("✓", "green"),
    "absent": ("·", "dim"),
    "weak": ("!", "yellow"),
    "broken": ("✗", "bold red"),
}


def doctor(
    ask: Annotated[str | None, typer.Option(help="Also send a short prompt to this model.", metavar="MODEL")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
    port: Annotated[int, typer.Option(help="The port that desist serve would use.", min=1, max=65535)] = 8000,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Check the machine, extras, models, database and server. Exit code 1 if something configured is broken."""
    from desist.cli.checks import connections, extras, machine, models

    found = [*machine(), *extras()]
    if not offline:
        found += models(ask)
    found += connections(db, server, token, port, offline=offline)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        _show(found)
    raise typer.Exit(ExitCode.error if any(one.state == "broken" for one in found) else ExitCode.ok)


def _show(found: Sequence[CheckResult]) -> None:
    from rich.table import Table
    from rich.text import Text

    from desist.cli.render import output_console

    console = output_console()
    utf = console.encoding.lower().startswith("utf")
    area = ""
    table = Table.grid(padding=(0, 2))
    for one in found:
        if one.area != area:
            area = one.area
            table.add_row("", "", "")
            table.add_row(Text(area, style="bold"), "", "")
        sign, style = _SYMBOLS[one.state.value]
        message = Text(one.message, style="dim" if one.state == "absent" else "")
        table.add_row(
            Text(f"{sign if utf else one.state.value} {one.name}", style=style), Text(one.state.value), message
        )
    console.print(table)
    broken = sum(one.state == "broken" for one in found)
    summary = f"{broken} broken" if broken else "nothing configured is broken"
    console.print(Text(f"\n{summary}", style="bold red" if broken else "green"))
