"""Calls in worker processes: what Python can't stop in a thread, a signal stops. See `process_call`."""

from desist.calls.process.process_call import ProcessCall, run_in_process
from desist.calls.process.protocol import check_importable

__all__ = ["ProcessCall", "check_importable", "run_in_process"]
