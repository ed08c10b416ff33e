"""Public import path of the names that events and outputs of all runs share."""

from desist.run.events import base
from desist.run.events.base import *  # noqa: F403

__all__: list[str] = []
__all__ += base.__all__
