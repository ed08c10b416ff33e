"""Runs whose process is gone: detection, end, partial text."""
