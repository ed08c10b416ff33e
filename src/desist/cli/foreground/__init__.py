"""A run that a command has started and shows: here (`near`) or on a server (`far`), its signals, its view, its end.

Nothing is imported here: a run of this process needs nothing of HTTP.
"""
