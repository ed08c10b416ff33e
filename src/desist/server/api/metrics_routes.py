"""`/metrics`: what a monitoring system polls, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from desist.runtime.daemon_thread import to_daemon_thread
from desist.server.dependencies import ApiContext, MayRead, problems
from desist.server.problems import HTTPProblem
from desist.server.queue_metrics import QueueMetrics, queue_metrics

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


def _queue(queues: list[QueueMetrics]) -> list[str]:
    label = {one.workflow_id: {"workflow": one.workflow_id} for one in queues}
    waits = "Seconds that the longest of these waits has lasted."
    return [
        _metric("desist_queued_runs", "gauge", "Submitted runs that wait.", _of(label, queues, "queued")),
        _metric("desist_queue_oldest_seconds", "gauge", waits, _of(label, queues, "oldest")),
        _metric("desist_queue_workers", "gauge", "Live workers that have the workflow.", _of(label, queues, "workers")),
    ]


def _of(label: Mapping[str, Mapping[str, str]], queues: list[QueueMetrics], name: str) -> list[Sample]:
    return [(label[one.workflow_id], getattr(one, name)) for one in queues]


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
