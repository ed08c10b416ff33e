"""A run that a command has started and shows: here or on a server, its signals, its view, its end."""

from desist.cli.running.far import FarRun
from desist.cli.running.near import NearRun
from desist.cli.running.performance import perform
from desist.cli.running.started import Started, Told

__all__ = ["FarRun", "NearRun", "Started", "Told", "perform"]
