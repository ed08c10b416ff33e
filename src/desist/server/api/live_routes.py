"""`/v1/runs/{run_id}/live`: what lives of a run at this moment, in words; the page shows it while a run is stopped.

Nothing is kept for it: it is found out when it is asked for, beside the loop, because stacks are read.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from desist.cancel.status import RunStatus
from desist.run.observability.live import AbandonedCallInfo, LiveRunInfo, innermost_frame, quarantine, tree
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import StoredRun
from desist.runtime.daemon_thread import to_daemon_thread
from desist.server.api.v1_schemas import RunId
from desist.server.dependencies import ApiContext, JSONValueResponse, MayRead, problems

__all__ = ["live_routes"]


class LiveRunView(BaseModel):
    """A run of the tree that hasn't ended."""

    run_id: str
    parent_run_id: str | None
    kind: Literal["workflow", "agent"]
    name: str
    status: RunStatus
    age: float = Field(description="Seconds.")
    steps: list[str] = Field(description="Names of the steps that are open, the outermost first.")
    blocked_in: list[str] = Field(description="What it waits for, in words.")
    grace_left: float | None = Field(description="Seconds until what doesn't end is given up; null: nobody stops it.")


class AbandonedCallView(BaseModel):
    """Work that could not be stopped."""

    name: str
    kind: str = Field(description="thread, task or process.")
    run_id: str | None
    since: float | None = Field(description="When it was given up, in seconds since the epoch.")
    alive: bool
    where: str = Field(
        description="The function that it stands in; with file and line only where clients are shown these."
    )
    line: str = Field(description="The source of that line, or nothing.")


class LiveView(BaseModel):
    """What lives of a run: of its whole tree, whichever of its ids was asked for."""

    run_id: str = Field(description="Of the tree's root.")
    status: RunStatus = Field(description="Of the run that was asked for.")
    now: float = Field(description="The server's time, in seconds since the epoch.")
    runs: list[LiveRunView] = Field(description="Those that live in this process, the oldest first.")
    left: list[AbandonedCallView] = Field(description="What was given up, and still runs in this process.")
    cancel: dict[str, Any] | None = Field(description="The record of its cancel, as far as it is.")


def live_routes(api: ApiContext) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1", tags=["runs"])

    @routes.get("/runs/{run_id}/live", response_model=LiveView, responses=problems(404))
    async def live_run(run_id: RunId, caller: MayRead) -> Response:
        """Say what lives of a run now: its open steps, what it waits for, what was given up and still runs."""
        found = await api.service.runs.find(run_id, caller)
        return JSONValueResponse(await to_daemon_thread(lambda: _life(found), "desist-server-live"))

    return routes


def _life(found: StoredRun) -> dict[str, Any]:
    root = found.root_run_id
    cancel = found.output.cancel
    return {
        "run_id": root,
        "status": found.output.status.value,
        "now": time.time(),
        "runs": [_live(run) for run in tree(root)],
        "left": [_left(one) for one in quarantine() if one.root_run_id == root and one.alive],
        "cancel": None if cancel is None else to_json_value(cancel),
    }


def _live(run: LiveRunInfo) -> dict[str, Any]:
    return {name: to_json_value(getattr(run, name)) for name in LiveRunView.model_fields}


def _left(one: AbandonedCallInfo) -> dict[str, Any]:
    told = {name: getattr(one, name) for name in ("name", "kind", "run_id", "since", "alive")}
    lines = one.stack.rstrip().splitlines()
    source = lines[-1].strip() if lines else ""
    return told | {"where": innermost_frame(one.stack), "line": "" if source.startswith("File ") else source}
