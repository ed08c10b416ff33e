"""The public face of the setting of the switch interval."""

from desist.runtime.switch_interval import lower_switch_interval, restore_switch_interval, set_switch_interval

__all__ = ["lower_switch_interval", "restore_switch_interval", "set_switch_interval"]
