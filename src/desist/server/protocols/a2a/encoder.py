"""Converts a run to an A2A task and its events to updates. Pure: returns JSON values.

Each message is streamed as an artifact; the output of the run is the artifact `answer`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from desist.cancel.status import RunStatus
from desist.run.events.base import content_text
from desist.run.records.json_values import dump, to_json_value
from desist.run.storage.store import StoredRun
from desist.server.protocols.text_parts import Key, content_delta, ends_text
from desist.server.stack_redaction import without_stacks

__all__ = ["STATES", "A2AEncoder", "task_of"]

Json = dict[str, Any]

#: CANCELLING is WORKING: `CANCELED` means that the run has ended.
STATES = {
    RunStatus.pending: "TASK_STATE_SUBMITTED",
    RunStatus.running: "TASK_STATE_WORKING",
    RunStatus.cancelling: "TASK_STATE_WORKING",
    RunStatus.paused: "TASK_STATE_INPUT_REQUIRED",
    RunStatus.cancelled: "TASK_STATE_CANCELED",
    RunStatus.completed: "TASK_STATE_COMPLETED",
    RunStatus.error: "TASK_STATE_FAILED",
}
ANSWER = "answer"


def task_of(run: StoredRun) -> Json:
    """Return the task of a run."""
    output = run.output
    status, cancel = output.status, output.cancel
    task: Json = {
        "id": run.run_id,
        "contextId": run.session_id or run.run_id,
        "status": _status(run.run_id, status, _text_part(status, cancel, getattr(output, "error", None))),
    }
    if output.content is not None and status is not RunStatus.error:
        task["artifacts"] = [_artifact(ANSWER, content_text(to_json_value(output.content)))]
    return task | _metadata(cancel)


class A2AEncoder:
    """Encodes the events of a live run.

    Parameters:
        run_id: the task. The update of its end is the last one.
        context_id: the run's session.
    """

    def __init__(self, run_id: str, context_id: str) -> None:
        self._task = {"taskId": run_id, "contextId": context_id}
        self._open: dict[Key, str] = {}
        self._count = 0

    def __call__(self, event: Any) -> Iterator[Json]:
        """Yield the updates for an event: `{"artifactUpdate": ...}` or `{"statusUpdate": ...}`."""
        if (piece := content_delta(event)) is not None:
            yield from self._piece(*piece)
        elif (key := ends_text(event)) is not None:
            self._open.pop(key, None)
        elif event.event == "StepOutput":
            self._open = {key: known for key, known in self._open.items() if key[2:3] != (event.step_id,)}
        elif event.is_terminal and event.run_id == self._task["taskId"]:
            yield from self._end(event)

    def _piece(self, key: Key, who: str | None, text: str) -> Iterator[Json]:
        """Start an artifact with the first piece and append later ones. Another read from the start gives the same."""
        known = self._open.get(key)
        if known is None:
            self._count += 1
            known = self._open[key] = f"text-{self._count}"
        elif not text:
            return
        else:
            yield {"artifactUpdate": {**self._task, "artifact": _artifact(known, text), "append": True}}
            return
        yield {"artifactUpdate": {**self._task, "artifact": _artifact(known, text, who)}}

    def _end(self, event: Any) -> Iterator[Json]:
        content, cancel = getattr(event, "content", None), getattr(event, "cancel", None)
        if content is not None and not event.is_error:
            answer = _artifact(ANSWER, content_text(to_json_value(content)))
            yield {"artifactUpdate": {**self._task, "artifact": answer, "lastChunk": True}}
        error = getattr(event, "error", None) or content
        status = _status(self._task["taskId"], event.status, _text_part(event.status, cancel, error))
        yield {"statusUpdate": {**self._task, "status": status, **_metadata(cancel)}}


def _text_part(status: RunStatus, cancel: Any, error: Any) -> str | None:
    if status is RunStatus.error:
        return str(error or "the run failed")
    if status is RunStatus.cancelled and cancel is not None and cancel.reason:
        return f"cancelled: {cancel.reason}"
    return None


def _status(run_id: str, status: RunStatus, text: str | None) -> Json:
    result: Json = {"state": STATES[status], "timestamp": dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")}
    if text is not None:
        result["message"] = {"messageId": f"{run_id}-{status.value}", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    return result


def _artifact(name: str, text: str, who: str | None = None) -> Json:
    return {"artifactId": name, "name": who or name, "parts": [{"text": text}]}


def _metadata(cancel: Any) -> Json:
    return {"metadata": {"desist": {"cancel": json.loads(without_stacks(dump(cancel)))}}} if cancel is not None else {}
