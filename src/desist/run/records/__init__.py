"""Values that are stored and sent: no events, no execution."""
