"""What `Agent` and `Workflow` share."""
