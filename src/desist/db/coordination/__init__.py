"""Decisions between processes: ownership, leases, cancel requests."""
