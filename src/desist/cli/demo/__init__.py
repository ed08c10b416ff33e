"""The parts of `desist demo`: its workflow, its measurements, its receipt."""
