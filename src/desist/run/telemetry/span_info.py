"""`SpanInfo`: the data of a run that its span records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from desist.cancel.scope import Scope
from desist.run.storage.values import Output

__all__ = ["SpanInfo"]


@dataclass(frozen=True, slots=True)
class SpanInfo:
    """One run, as tracing sees it."""

    kind: str  #: "workflow" or "agent"
    output: Output  #: RunOutput or WorkflowRunOutput; names, ids and the model are read from it
    scope: Scope[Any]  #: the run's id, the run at the top of its tree, and the reason of a cancel
