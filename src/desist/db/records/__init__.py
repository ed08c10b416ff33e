"""Encoding of runs, cancel requests and checkpoints as rows and JSON text."""
