"""This process among others: identity, liveness, notifications."""
