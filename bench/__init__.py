"""Measurements: how fast a run stops, what is billed after it, and how light the library is.

`python -m bench` runs them all; README.md says how to read the tables. Uses the public names of desist, and the
loopback provider of `desist.testing` in a process of its own.
"""
