"""`desist demo`."""
