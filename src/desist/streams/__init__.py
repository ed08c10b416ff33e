"""Channels that carry events from a run to its readers, and the readers."""
