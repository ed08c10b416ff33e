"""A model provider on loopback that follows a script."""
