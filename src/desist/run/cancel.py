"""The public face of the functions that cancel a run by its id."""

from desist.run.cancellation_management.cancel import CancelMethods, acancel, acancel_run, cancel, cancel_run

__all__ = ["CancelMethods", "acancel", "acancel_run", "cancel", "cancel_run"]
