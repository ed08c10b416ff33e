"""What commands show of runs: a table of many, a card of one, a receipt. Takes what a depot says; asks nothing."""

from desist.cli.shown.card import card
from desist.cli.shown.paper import paper
from desist.cli.shown.receipts import receipt_panel, receipt_words
from desist.cli.shown.status import sign_of, status_text
from desist.cli.shown.table import run_table

__all__ = ["card", "paper", "receipt_panel", "receipt_words", "run_table", "sign_of", "status_text"]
