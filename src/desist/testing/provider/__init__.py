"""A scripted model provider on loopback."""
