"""How a run looks in a terminal: its text as it streams, its steps, its end.

Used by `print_response` of agents and workflows and by the command line. It reads events and writes to a rich
`Console`; it starts nothing and decides nothing. rich is imported in this room only, so nothing below the command
line may import it at its top.
"""

from desist.console.end_panel import cancel_rows, end_panel, format_counts
from desist.console.format import milliseconds, seconds
from desist.console.run_view import RunView
from desist.console.show import show, show_async

__all__ = ["RunView", "cancel_rows", "end_panel", "format_counts", "milliseconds", "seconds", "show", "show_async"]
