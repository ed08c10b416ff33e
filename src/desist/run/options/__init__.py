"""What can be said about one run."""
