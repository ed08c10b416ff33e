"""Public import path of the functions that cancel a run by id."""

from desist.run.cancellation_management.cancel import acancel, acancel_run, cancel, cancel_run

__all__ = ["acancel", "acancel_run", "cancel", "cancel_run"]
