"""`/v1/runs/{run_id}/live`: the live runs of a tree and what they are blocked in. The page shows it during a cancel.

The data is collected for each request, in a thread, because reading stacks is slow.
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
    """A live run of the tree."""

    run_id: str
    parent_run_id: str | None
    kind: Literal["workflow", "agent"]
    name: str
    status: RunStatus
    age: float = Field(description="Seconds since the start.")
    steps: list[str] = Field(description="The open steps, outermost first.")
    blocked_in: list[str] = Field(description="What the run waits for, as text.")
    grace_left: float | None = Field(description="Seconds until unfinished work is abandoned; null: not cancelled.")


class AbandonedCallView(BaseModel):
    """A call that could not be stopped."""

    name: str
    kind: str = Field(description="thread, task or process.")
    run_id: str | None
    since: float | None = Field(description="When the call was abandoned, in seconds since the epoch.")
    alive: bool
    where: str = Field(description="The innermost function; with file and line only if the server includes them.")
    line: str = Field(description="The source line, or an empty string.")


class LiveView(BaseModel):
    """The live part of a run's tree."""

    run_id: str = Field(description="The root of the tree.")
    status: RunStatus = Field(description="The status of the requested run.")
    now: float = Field(description="The server's time, in seconds since the epoch.")
    runs: list[LiveRunView] = Field(description="The live runs in this process, oldest first.")
    left: list[AbandonedCallView] = Field(description="Abandoned calls that still run in this process.")
    cancel: dict[str, Any] | None = Field(description="The cancel record so far.")


def live_routes(api: ApiContext) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1", tags=["runs"])

    @routes.get("/runs/{run_id}/live", response_model=LiveView, responses=problems(404))
    async def live_run(run_id: RunId, caller: MayRead) -> Response:
        """Return the open steps of a live run, what it is blocked in, and abandoned calls that still run."""
        found = await api.service.runs.find(run_id, caller)
        return JSONValueResponse(await to_daemon_thread(lambda: _live_view(found), "desist-server-live"))

    return routes


def _live_view(found: StoredRun) -> dict[str, Any]:
    root = found.root_run_id
    cancel = found.output.cancel
    return {
        "run_id": root,
        "status": found.output.status.value,
        "now": time.time(),
        "runs": [_live_run(run) for run in tree(root)],
        "left": [_abandoned_call(one) for one in quarantine() if one.root_run_id == root and one.alive],
        "cancel": None if cancel is None else to_json_value(cancel),
    }


def _live_run(run: LiveRunInfo) -> dict[str, Any]:
    return {name: to_json_value(getattr(run, name)) for name in LiveRunView.model_fields}


def _abandoned_call(one: AbandonedCallInfo) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in ("name", "kind", "run_id", "since", "alive")}
    lines = one.stack.rstrip().splitlines()
    source = lines[-1].strip() if lines else ""
    return fields | {"where": innermost_frame(one.stack), "line": "" if source.startswith("File ") else source}
