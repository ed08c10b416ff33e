"""Event classes, their registry, and their encoding."""
