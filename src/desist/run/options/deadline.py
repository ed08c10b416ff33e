"""Convert a run's deadline to the seconds that are left."""

from __future__ import annotations

import datetime as dt
import math
import time

from desist.exceptions import ConfigurationError

__all__ = ["seconds_until"]


def seconds_until(deadline: dt.datetime | float | None, name: str = "deadline") -> float | None:
    """Return the seconds that are left until `deadline`, an aware datetime or seconds since the epoch.

    Parameters:
        name: of the parameter, for messages.

    Raises:
        ConfigurationError: `deadline` has another type, or is a datetime without a time zone.
    """
    if deadline is None:
        return None
    if isinstance(deadline, dt.datetime):
        if deadline.tzinfo is None:
            raise ConfigurationError(f"{name}={deadline} has no time zone: use datetime.now(timezone.utc) + ...")
        deadline = deadline.timestamp()
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or math.isnan(deadline):
        raise ConfigurationError(f"{name}={deadline!r:.80} must be an aware datetime or seconds since the epoch")
    return max(0.0, deadline - time.time())
