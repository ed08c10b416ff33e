"""Outputs of runs, sessions and history."""
