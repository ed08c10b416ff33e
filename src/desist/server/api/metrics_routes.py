"""`/metrics`: what a monitoring system polls, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from desist.run.storage.queue_store import QueueStatistics
from desist.runtime.daemon_thread import to_daemon_thread
from desist.server.dependencies import ApiContext, MayRead, problems
from desist.server.problems import HTTPProblem
from desist.server.queue_metrics import queue_metrics

__all__ = ["metrics_routes"]

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]


def metrics_routes(api: ApiContext) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["server"])

    @routes.get("/metrics", response_class=PlainTextResponse, responses=problems())
    async def metrics(caller: MayRead) -> PlainTextResponse:
        """Return live runs, cancel requests and queues, in the text format of Prometheus."""
        if caller.owner is not None:
            raise HTTPProblem(403, "/metrics counts the runs of all users: use a token without an owner")
        service = api.service
        queues = await to_daemon_thread(lambda: queue_metrics(service.components.stores()), "desist-db-read")
        cancels: list[Sample] = [({"outcome": name}, count) for name, count in sorted(service.cancels.items())]
        live: list[Sample] = [({}, len(service.active_runs))]
        parts = [
            _metric("desist_live_runs", "gauge", "Runs that this server executes.", live),
            _metric("desist_cancel_requests_total", "counter", "Cancel requests to this server.", cancels),
            *_queue(queues),
        ]
        return PlainTextResponse("".join(parts), media_type=_TYPE)

    return routes


#: Name, field of `QueueStatistics`, and explanation of each gauge.
_QUEUE = (
    ("desist_queued_runs", "queued", "Submitted runs that a worker may claim now."),
    ("desist_queue_oldest_seconds", "oldest", "Seconds that the longest of these waits has lasted."),
    ("desist_scheduled_runs", "scheduled", "Submitted runs that wait for their time."),
    ("desist_held_runs", "held", "Submitted runs that wait for the end of another one with their key."),
    ("desist_worker_runs", "running", "Submitted runs that workers execute."),
    ("desist_queue_workers", "workers", "Live workers that have the workflow."),
    ("desist_workflow_limit", "limit", "The maximum of live runs on all workers, where there is one."),
    ("desist_workflow_paused", "paused", "1 if no runs of the workflow are claimed."),
)


def _queue(queues: list[QueueStatistics]) -> list[str]:
    return [_metric(name, "gauge", text, _samples(queues, field)) for name, field, text in _QUEUE]


def _samples(queues: list[QueueStatistics], field: str) -> list[Sample]:
    values = [({"workflow": one.workflow_id}, getattr(one, field)) for one in queues]
    known = [(label, 0 if value is None and field == "oldest" else value) for label, value in values]
    return [(label, float(value)) for label, value in known if value is not None]


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
