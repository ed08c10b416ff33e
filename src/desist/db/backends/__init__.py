"""Connections, transactions and errors of one kind of database."""
