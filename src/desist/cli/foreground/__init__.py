"""Runs in the foreground of a command, in this process (`local_run`) or on a server (`remote_run`), and their signals.

This package imports nothing, so that a run in this process doesn't load the HTTP client.
"""
