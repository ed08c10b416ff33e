"""Execute submitted runs: workers, on any number of machines, or `drive` in a job of another engine. See
`docs/fleet.md`.

Submitting (`Workflow.submit`) does not need this package: queued runs are rows in the database, and workers claim them
there. The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.engine.drive_outcome import DriveOutcome, DriveResult
    from desist.engine.drive_run import adrive, drive
    from desist.engine.serve import serve_worker
    from desist.engine.worker import Worker

_MODULES = {
    "DriveOutcome": "desist.engine.drive_outcome",
    "DriveResult": "desist.engine.drive_outcome",
    "Worker": "desist.engine.worker",
    "adrive": "desist.engine.drive_run",
    "drive": "desist.engine.drive_run",
    "serve_worker": "desist.engine.serve",
}

__all__ = ["DriveOutcome", "DriveResult", "Worker", "adrive", "drive", "serve_worker"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
