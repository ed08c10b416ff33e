"""A run that a command has started and shows: here (`local_run`) or on a server (`remote_run`), its signals, its view,
its end.

Nothing is imported here: a run of this process needs nothing of HTTP.
"""
