"""Keys, broken pipes and recordings of a terminal."""
