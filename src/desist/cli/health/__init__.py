"""What `desist doctor` looks at: the machine, what is installed, models, places. Each look is a list of findings."""

from desist.cli.health.extras import extras
from desist.cli.health.finding import Finding, State
from desist.cli.health.machine import machine
from desist.cli.health.models import models
from desist.cli.health.places import places

__all__ = ["Finding", "State", "extras", "machine", "models", "places"]
