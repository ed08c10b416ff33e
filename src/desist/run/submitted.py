"""Public import path of `SubmittedRun`."""

from desist.run.component.submitted_run import SubmittedRun

__all__ = ["SubmittedRun"]
