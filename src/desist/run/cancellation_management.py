"""The names under which programs of the API that we follow know `desist.run.cancel`."""

from desist.run.cancel import acancel_run, cancel, cancel_run

__all__ = ["acancel_run", "cancel", "cancel_run"]
