"""`desist cancel`: cancel runs, in this process or any other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from desist.cli.completion import run_ids
from desist.cli.durations import duration_option
from desist.cli.exit_codes import ExitCode
from desist.cli.options import (
    Agent,
    AsJson,
    Db,
    OlderThan,
    Server,
    Session,
    Token,
    User,
    Workflow,
    client_from_options,
    login,
    print_json,
)

if TYPE_CHECKING:
    from desist.cli.client import CancelOptions, ReceiptInfo, RunClient, RunFilter, RunInfo

__all__ = ["cancel"]


def cancel(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of the runs, or of any run in their trees.",
            metavar="RUN...",
            autocompletion=run_ids,
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All live runs that match the filters.")] = False,
    workflow: Workflow = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    older_than: OlderThan = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only list the runs that would be cancelled."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="The reason, as free text.")] = None,
    by: Annotated[str | None, typer.Option(help="The requester.", show_default="your login")] = None,
    grace: Annotated[float | None, duration_option("Time for cleanup. Default: that of each run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the time for cleanup.")] = False,
    scope: Annotated[
        Literal["tree", "run"], typer.Option(help="The whole tree, or only the given run and its children.")
    ] = "tree",
    compensate: Annotated[bool, typer.Option("--compensate", help="Run the compensations of finished steps.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all work has stopped.")] = False,
    within: Annotated[float | None, duration_option("Maximum time to wait; exit code 5 if it is exceeded.")] = None,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Cancel runs by id, or all that match. The outcome is decided when the receipt is shown.

    Exit codes: 0 all end CANCELLED, 3 there is no such run, 4 one had ended otherwise, 5 one hasn't settled in time.
    """
    from desist.cli.client import LIVE, CancelOptions, RunFilter

    wanted = RunFilter(
        statuses=LIVE, workflow=workflow, agent=agent, session_id=session, user_id=user, older_than=older_than
    )
    filters = any(value is not None for value in (workflow, agent, session, user, older_than))
    ids = list(run or ())
    _check(ids, everything, filters)
    how = CancelOptions(reason=reason, by=by or login(), grace=grace, force=force, scope=scope, compensate=compensate)
    with client_from_options(db, server, token) as client:
        chosen = _chosen(client, ids, wanted)
        if dry_run:
            _print_dry_run(chosen, as_json)
            raise typer.Exit(ExitCode.ok if chosen else ExitCode.not_found)
        receipts = _stop(
            client, ids or [one.run_id for one in chosen], how, within if wait or within is not None else 0.0
        )
    _print_receipts(receipts, as_json)
    raise typer.Exit(_code(receipts, many=everything, waited=wait or within is not None))


def _check(ids: Sequence[str], everything: bool, filters: bool) -> None:
    if ids and (everything or filters):
        raise typer.BadParameter("pass either RUN ids, or --all with filters")
    if not ids and not everything:
        more = " or --all, to which the filters apply" if filters else ", or --all"
        raise typer.BadParameter(f"no runs given: pass their ids{more}")


def _chosen(client: RunClient, ids: Sequence[str], run_filter: RunFilter) -> list[RunInfo]:
    """Return the live runs to cancel. Unknown ids are left out."""
    from desist.cli.exit_codes import NotFound

    if not ids:
        return client.runs(run_filter)
    found = []
    for run_id in dict.fromkeys(ids):
        try:
            found.append(client.run(run_id))
        except NotFound:
            continue
    return [one for one in found if one.is_live]


def _stop(client: RunClient, ids: Sequence[str], options: CancelOptions, seconds: float | None) -> list[ReceiptInfo]:
    """Cancel all runs, then wait for all ends together, for `seconds` at most; None: without a limit."""
    receipts = [client.cancel(run_id, options) for run_id in dict.fromkeys(ids)]
    if seconds == 0.0:
        return receipts
    from desist.cli.render import output_console

    end = None if seconds is None else time.monotonic() + seconds
    with output_console(stderr=True).status("waiting until all work has stopped ..."):
        return [
            client.wait_settled(receipt, None if end is None else max(0.0, end - time.monotonic()))
            for receipt in receipts
        ]


def _print_dry_run(chosen: Sequence[RunInfo], as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, "count": len(chosen), "runs": [one.plain() for one in chosen]})
        return
    from desist.cli.render import output_console, run_table
    from desist.console.format import count

    console = output_console(wide=True)
    if chosen:
        console.print(run_table(chosen, console))
    console.print(f"{count(len(chosen), 'run')} would be cancelled; nothing was done", style="yellow")


def _print_receipts(receipts: Sequence[ReceiptInfo], as_json: bool) -> None:
    if as_json:
        print_json([receipt.plain() for receipt in receipts])
        return
    from desist.cli.render import format_receipt, output_console, receipt_panel

    console = output_console()
    if not receipts:
        output_console(stderr=True).print("no live run matches: nothing was done")
    elif len(receipts) == 1:
        console.print(receipt_panel(receipts[0], console.encoding))
    else:
        for receipt in receipts:
            console.print(f"{receipt.run_id}  {format_receipt(receipt)}", markup=False)
        console.print(f"{sum(map(bool, receipts))} of {len(receipts)} end CANCELLED", style="bold")


def _code(receipts: Sequence[ReceiptInfo], *, many: bool, waited: bool) -> ExitCode:
    if not receipts or any(receipt.outcome == "unknown" for receipt in receipts):
        return ExitCode.not_found
    if not many and not all(receipts):  # of many runs, some end by themselves in the meantime
        return ExitCode.ended_differently
    return ExitCode.not_settled if waited and not all(receipt.is_settled for receipt in receipts) else ExitCode.ok
