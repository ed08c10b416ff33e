"""Key presses, broken pipes and recordings of a terminal."""
