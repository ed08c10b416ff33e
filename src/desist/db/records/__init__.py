"""Outputs, runs and cancel requests as rows and JSON text."""
