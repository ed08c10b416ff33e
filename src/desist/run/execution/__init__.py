"""`Run` and its parts."""
