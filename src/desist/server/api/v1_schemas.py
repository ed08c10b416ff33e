"""What `/v1` takes and gives, as pydantic models: the OpenAPI is made from these, and requests are checked by them."""

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
    "RunPage",
]
__all__ += ["RunDetail", "RunId", "RunInfo", "StartRequest", "info", "run_detail"]

Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
RunId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:\-]+$")]
Words = Annotated[str, StringConstraints(max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=86_400 * 30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BudgetModel(_RequestBody):
    """What the run and all that it starts may spend."""

    tokens: Count | None = None
    tool_calls: Count | None = None
    model_calls: Count | None = None

    @model_validator(mode="after")
    def _something(self) -> BudgetModel:
        if self.tokens is None and self.tool_calls is None and self.model_calls is None:
            raise ValueError("a budget must limit something")
        return self

    def budget(self) -> Budget:
        """Return it as runs take it."""
        return Budget(tokens=self.tokens, tool_calls=self.tool_calls, model_calls=self.model_calls)


class _Started(_RequestBody):
    stream: bool = Field(default=False, description="Answer with the events, not the run.")
    timeout: Seconds | None = Field(default=None, description="Seconds after which it is cancelled.")
    budget: BudgetModel | None = None
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue", description="What becomes of the run when its clients have left."
    )
    away: Seconds | None = Field(default=None, description="Seconds that its clients may be absent; else the server's.")

    def options(self) -> dict[str, Any]:
        """Return the options for `arun`."""
        return {"timeout": self.timeout, "budget": self.budget.budget() if self.budget else None}


class StartRequest(_Started):
    """A run to start: of a workflow or of an agent."""

    workflow: Id | None = Field(default=None, description="Id of the workflow to run.")
    agent: Id | None = Field(default=None, description="Id of the agent to run.")
    input: str | dict[str, Any] | list[Any] | None = Field(default=None, description="What it is asked.")
    session_id: Id | None = Field(default=None, description="The session that it goes on with; else it has a new one.")
    user_id: Id | None = Field(default=None, description="Whose run it is; a token with an owner says that itself.")

    @model_validator(mode="after")
    def _one(self) -> StartRequest:
        if (self.workflow is None) == (self.agent is None):
            raise ValueError("give either workflow or agent")
        return self


class ContinueRequest(_Started):
    """How to go on with a run that was cancelled or has failed."""


class _How(_RequestBody):
    reason: Words | None = Field(default=None, description="Why, in free words.")
    by: Annotated[str, StringConstraints(max_length=200)] | None = Field(default=None, description="Who asks.")
    grace: Seconds | None = Field(default=None, description="Seconds for cleanup; else the run's own.")
    force: bool = Field(default=False, description="Leave no time for cleanup.")


class CancelRequestBody(_How):
    """How to cancel a run."""

    scope: Literal["tree", "run"] = Field(default="tree", description="The tree, or this run and what it started.")
    compensate: bool = Field(default=False, description="Undo what had finished.")


class BulkCancelRequest(_How):
    """Which live runs to cancel. Without any filter, all that the caller may see."""

    workflow: Id | None = None
    agent: Id | None = None
    session_id: Id | None = None
    user_id: Id | None = None
    older_than: Seconds | None = Field(default=None, description="Only runs that began so many seconds ago.")
    run_ids: list[Id] | None = Field(default=None, max_length=1000, description="Only these: ids of roots.")
    dry_run: bool = Field(default=False, description="Only say which runs it would be.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str


class Receipt(BaseModel):
    """The truthful answer to a cancel request. Times are seconds since the epoch."""

    run_id: str = Field(description="Of the run that was decided about: the tree's root, unless scope is `run`.")
    outcome: Literal["accepted", "already_cancelling", "already_cancelled", "finished"]
    status: RunStatus = Field(description="How the run stands now.")
    source: str | None = None
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None
    delivered_at: float | None = None
    settled_at: float | None = None
    upstream_closed: int = Field(default=0, description="Connections to providers that were closed.")
    abandoned: list[dict[str, Any]] = Field(default=[], description="Work that could not be stopped.")
    cleanup: list[dict[str, Any]] = Field(default=[], description="Hooks and compensations, in their order.")


class RunInfo(BaseModel):
    """A run, in short."""

    run_id: str
    kind: Literal["workflow", "agent"]
    id: str | None = Field(description="Of the workflow or agent.")
    name: str | None = Field(default=None, description="Of the workflow or agent.")
    status: RunStatus
    session_id: str | None
    user_id: str | None
    created_at: float = Field(description="Seconds since the epoch.")
    duration: float | None = Field(default=None, description="Seconds that it took; null: it lives, or nobody knows.")
    asked: str | None = Field(default=None, description="The beginning of what it was asked, as text.")
    steps: list[str] = Field(default=[], description="Names of its open steps, the outermost first, if it lives here.")
    root_run_id: str
    parent_run_id: str | None
    continued_from: str | None = None
    store_error: str | None = Field(default=None, description="Why its end may not be stored, or can't be read.")
    cancel: dict[str, Any] | None = Field(default=None, description="The record of its cancel.")
    followers: int = Field(default=0, description="How many clients follow it here, or wait for it.")


class RunDetail(RunInfo):
    """A run, with all that came of it."""

    output: dict[str, Any]


class RunPage(BaseModel):
    """Some runs, the newest first."""

    runs: list[RunInfo]
    next: str | None = Field(default=None, description="The `cursor` of the page after this one; null: there is none.")


class BulkResult(BaseModel):
    """What a bulk cancel did, or would do."""

    dry_run: bool
    count: int
    run_ids: list[str]
    receipts: list[Receipt]


def info(run: StoredRun, followers: int = 0) -> dict[str, Any]:
    """Return a run in short."""
    return run_summary(run) | {"followers": followers}


def run_detail(run: StoredRun, followers: int = 0) -> dict[str, Any]:
    """Return a run with its output."""
    return info(run, followers) | {"output": to_json_value(run.output)}
