"""Times of periodic runs: cron expressions, read by croniter (extra `scale`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from desist.exceptions import ConfigurationError, MissingExtraError

__all__ = ["check_cron", "next_time"]


def next_time(cron: str, timezone: str, after: float) -> float:
    """Return the first time of a cron expression after a time; seconds since the epoch.

    Parameters:
        timezone: in which the expression is read, also over changes of daylight saving time: `Europe/Berlin`.
    """
    found: datetime = _croniter()(cron, datetime.fromtimestamp(after, _zone(timezone))).get_next(datetime)
    return found.timestamp()


def check_cron(cron: str, timezone: str) -> None:
    """Check a cron expression and a time zone.

    Raises:
        ConfigurationError: one of them is invalid.
        MissingExtraError: the extra `scale` is not installed.
    """
    if not isinstance(cron, str) or not _croniter().is_valid(cron):
        raise ConfigurationError(
            f"cron={cron!r} is not a cron expression: minute, hour, day, month, weekday, as in '0 8 * * *'"
        )
    _zone(timezone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a name that isn't known, or no name
        raise ConfigurationError(f"timezone={name!r} is not a time zone such as 'Europe/Berlin' or 'UTC'") from error


def _croniter() -> Any:
    try:
        from croniter import croniter
    except ImportError as error:
        raise MissingExtraError("a schedule", "scale") from error
    return croniter
