"""Render a run in a terminal: the streamed text, the steps and the result.

Used by `print_response` of agents and workflows and by the command line. It reads events and writes to a rich
`Console`; it never starts or cancels a run. Below the command line, rich is imported in this package only, so no other
package there may import this one at module level.
"""

from desist.console.end_panel import cancel_rows, end_panel, format_counts
from desist.console.format import milliseconds, seconds
from desist.console.run_view import RunView
from desist.console.show import show, show_async

__all__ = ["RunView", "cancel_rows", "end_panel", "format_counts", "milliseconds", "seconds", "show", "show_async"]
