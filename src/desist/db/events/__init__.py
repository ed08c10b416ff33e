"""Stored events: rows, pages, and the flusher."""
