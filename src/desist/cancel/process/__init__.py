"""Calls in worker processes: what Python can't stop in a thread, a signal stops. See `call`."""

from desist.cancel.process.call import ProcessWork, run_in_process
from desist.cancel.process.wire import check_importable

__all__ = ["ProcessWork", "check_importable", "run_in_process"]
