"""What becomes of a run whose process is gone."""
