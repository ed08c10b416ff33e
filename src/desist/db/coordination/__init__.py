"""What processes compete for: one transaction each."""
