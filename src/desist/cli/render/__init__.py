"""Render runs for commands: a table of many, the details of one, a receipt. Pure functions of a client's values."""

from desist.cli.render.console import output_console
from desist.cli.render.receipts import format_receipt, receipt_panel
from desist.cli.render.run_details import render_run
from desist.cli.render.run_table import run_table
from desist.cli.render.status import sign_of, status_text

__all__ = ["render_run", "format_receipt", "output_console", "receipt_panel", "run_table", "sign_of", "status_text"]
