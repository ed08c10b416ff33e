"""Statements and rows, one dialect a file."""
