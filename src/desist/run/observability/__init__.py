"""Live runs, summaries, and the debug log."""
