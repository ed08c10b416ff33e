"""What commands show of runs: a table of many, a card of one, a receipt. Takes what a depot says; asks nothing."""

from desist.cli.render.console import paper
from desist.cli.render.receipts import receipt_panel, receipt_words
from desist.cli.render.run_details import card
from desist.cli.render.run_table import run_table
from desist.cli.render.status import sign_of, status_text

__all__ = ["card", "paper", "receipt_panel", "receipt_words", "run_table", "sign_of", "status_text"]
