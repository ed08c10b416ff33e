"""Workers that execute submitted runs, on any number of machines. See `docs/fleet.md`.

Submitting (`Workflow.submit`) does not need this package: queued runs are rows in the database, and workers claim them
there. The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.engine.serve import serve_worker
    from desist.engine.worker import Worker

_MODULES = {"Worker": "desist.engine.worker", "serve_worker": "desist.engine.serve"}

__all__ = ["Worker", "serve_worker"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
