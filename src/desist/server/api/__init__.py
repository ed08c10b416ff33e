"""The HTTP routes of /v1 and of the followed API."""
