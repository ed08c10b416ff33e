"""This process among others: identity, liveness and notification."""
