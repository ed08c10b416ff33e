"""What `desist doctor` looks at: the machine, what is installed, models, places. Each look is a list of findings."""

from desist.cli.checks.connections import places
from desist.cli.checks.extras import extras
from desist.cli.checks.models import models
from desist.cli.checks.platform import machine
from desist.cli.checks.result import CheckResult, State

__all__ = ["CheckResult", "State", "extras", "machine", "models", "places"]
