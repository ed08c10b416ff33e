"""The public face of the setting of the switch interval."""

from desist.runtime.switch_interval import brisk, relaxed, set_switch_interval

__all__ = ["brisk", "relaxed", "set_switch_interval"]
