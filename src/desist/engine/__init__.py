"""Scale-out: workers that drive submitted runs, on any number of machines. The extra `scale`. See `docs/fleet.md`.

Runs are submitted without it (`Workflow.submit`): that they wait stands in the database. DBOS gives them to workers;
what becomes of them is decided by their records. Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.engine.serve import serve_worker
    from desist.engine.worker import Worker

_PLACES = {"Worker": "desist.engine.worker", "serve_worker": "desist.engine.serve"}

__all__ = ["Worker", "serve_worker"]

__getattr__, __dir__ = lazy_names(__name__, _PLACES)
