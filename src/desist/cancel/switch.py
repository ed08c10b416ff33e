"""The public face of the settings for the whole process: the switch interval, and the tracking of started work."""

from desist.runtime.switch_interval import lower_switch_interval, restore_switch_interval, set_switch_interval
from desist.runtime.work_tracking import is_work_tracked, set_work_tracking

__all__ = [
    "is_work_tracked",
    "set_work_tracking",
    "lower_switch_interval",
    "restore_switch_interval",
    "set_switch_interval",
]
