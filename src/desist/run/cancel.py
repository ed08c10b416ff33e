"""The public face of the functions that cancel a run by its id."""

from desist.run.component.cancellation import CancelMethods, acancel, acancel_run, cancel, cancel_run

__all__ = ["CancelMethods", "acancel", "acancel_run", "cancel", "cancel_run"]
