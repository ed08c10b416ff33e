"""Requests and responses of `/v1` as pydantic models, for validation and for the OpenAPI schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from desist.cancel.status import RunStatus
from desist.run.observability.summary import run_summary
from desist.run.options.budget import Budget
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import StoredRun

__all__ = [
    "BudgetModel",
    "BulkCancelRequest",
    "BulkResult",
    "CancelRequestBody",
    "ContinueRequest",
    "Id",
    "Problem",
    "Receipt",
    "RunDetail",
    "RunId",
    "RunInfo",
    "RunPage",
    "StartRequest",
    "run_detail",
    "run_info",
]

Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
RunId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:\-]+$")]
Text = Annotated[str, StringConstraints(max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=86_400 * 30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BudgetModel(_RequestBody):
    """What the run and its children may use."""

    tokens: Count | None = None
    tool_calls: Count | None = None
    model_calls: Count | None = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> BudgetModel:
        if self.tokens is None and self.tool_calls is None and self.model_calls is None:
            raise ValueError("a budget needs at least one of tokens, tool_calls and model_calls")
        return self

    def budget(self) -> Budget:
        """Return the `Budget`."""
        return Budget(tokens=self.tokens, tool_calls=self.tool_calls, model_calls=self.model_calls)


class _StartOptions(_RequestBody):
    stream: bool = Field(default=False, description="Respond with the events instead of the run.")
    timeout: Seconds | None = Field(default=None, description="Seconds after which the run is cancelled.")
    budget: BudgetModel | None = None
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue", description="What happens to the run when all its clients have disconnected."
    )
    away: Seconds | None = Field(
        default=None, description="Seconds without clients before the run is cancelled. Default: the server's limit."
    )

    def options(self) -> dict[str, Any]:
        """Return the options for `arun`."""
        return {"timeout": self.timeout, "budget": self.budget.budget() if self.budget else None}


class StartRequest(_StartOptions):
    """A run of a workflow or an agent to start."""

    workflow: Id | None = Field(default=None, description="Id of the workflow to run.")
    agent: Id | None = Field(default=None, description="Id of the agent to run.")
    input: str | dict[str, Any] | list[Any] | None = Field(default=None, description="The input of the run.")
    session_id: Id | None = Field(default=None, description="The session of the run. Default: a new session.")
    user_id: Id | None = Field(default=None, description="The user of the run. Tokens with an owner set it.")

    @model_validator(mode="after")
    def _check_target(self) -> StartRequest:
        if (self.workflow is None) == (self.agent is None):
            raise ValueError("give exactly one of workflow and agent")
        return self


class ContinueRequest(_StartOptions):
    """Options to continue a cancelled or failed run."""


class _CancelOptions(_RequestBody):
    reason: Text | None = Field(default=None, description="The reason as free text.")
    by: Annotated[str, StringConstraints(max_length=200)] | None = Field(default=None, description="The requester.")
    grace: Seconds | None = Field(default=None, description="Seconds for cleanup. Default: the run's own.")
    force: bool = Field(default=False, description="Skip the time for cleanup.")


class CancelRequestBody(_CancelOptions):
    """Options to cancel a run."""

    scope: Literal["tree", "run"] = Field(
        default="tree", description="`tree`: the whole tree. `run`: this run and its children."
    )
    compensate: bool = Field(default=False, description="Run the compensations of finished steps.")


class BulkCancelRequest(_CancelOptions):
    """The live runs to cancel. Without a filter, all that the caller may see."""

    workflow: Id | None = None
    agent: Id | None = None
    session_id: Id | None = None
    user_id: Id | None = None
    older_than: Seconds | None = Field(
        default=None, description="Only runs that started at least this many seconds ago."
    )
    run_ids: list[Id] | None = Field(default=None, max_length=1000, description="Only these root runs.")
    dry_run: bool = Field(default=False, description="Only list the runs.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str


class Receipt(BaseModel):
    """The answer to a cancel request. Times are seconds since the epoch."""

    run_id: str = Field(description="The cancelled run: the root of the tree, unless scope is `run`.")
    outcome: Literal["accepted", "already_cancelling", "already_cancelled", "finished"]
    status: RunStatus = Field(description="The present status of the run.")
    source: str | None = None
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None
    delivered_at: float | None = None
    settled_at: float | None = None
    upstream_closed: int = Field(default=0, description="Connections to providers that were closed.")
    connections_closed: int = Field(default=0, description="All connections that were closed, also those of user code.")
    abandoned: list[dict[str, Any]] = Field(default=[], description="Calls that could not be stopped.")
    cleanup: list[dict[str, Any]] = Field(default=[], description="Hooks and compensations in execution order.")


class RunInfo(BaseModel):
    """A summary of a run."""

    run_id: str
    kind: Literal["workflow", "agent"]
    id: str | None = Field(description="Of the workflow or agent.")
    name: str | None = Field(default=None, description="Of the workflow or agent.")
    status: RunStatus
    session_id: str | None
    user_id: str | None
    created_at: float = Field(description="Seconds since the epoch.")
    duration: float | None = Field(default=None, description="Seconds from start to end; null if live or unknown.")
    asked: str | None = Field(default=None, description="The beginning of the input as text.")
    steps: list[str] = Field(default=[], description="The open steps, outermost first, if live in this process.")
    root_run_id: str
    parent_run_id: str | None
    continued_from: str | None = None
    store_error: str | None = Field(default=None, description="Why its end may not be stored, or can't be read.")
    cancel: dict[str, Any] | None = Field(default=None, description="The cancel record.")
    followers: int = Field(default=0, description="The number of clients that follow the run or wait for it.")


class RunDetail(RunInfo):
    """A run with its output."""

    output: dict[str, Any]


class RunPage(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunInfo]
    next: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")


class BulkResult(BaseModel):
    """The result of a bulk cancel."""

    dry_run: bool
    count: int
    run_ids: list[str]
    receipts: list[Receipt]


def run_info(run: StoredRun, followers: int = 0) -> dict[str, Any]:
    """Return the summary of a run."""
    return run_summary(run) | {"followers": followers}


def run_detail(run: StoredRun, followers: int = 0) -> dict[str, Any]:
    """Return a run with its output."""
    return run_info(run, followers) | {"output": to_json_value(run.output)}
