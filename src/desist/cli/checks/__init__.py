"""The checks of `desist doctor`: the machine, the installed extras, models, connections. Each yields `CheckResult`s."""

from desist.cli.checks.connections import connections
from desist.cli.checks.extras import extras
from desist.cli.checks.models import models
from desist.cli.checks.platform import machine
from desist.cli.checks.result import CheckResult, State

__all__ = ["CheckResult", "State", "connections", "extras", "machine", "models"]
