"""Answers the requests of A2A clients for one workflow or agent. A task is a run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import a2a_pb2 as pb
from a2a.utils import errors
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.exceptions import HTTPException

from desist.cancel.reason import Source
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import DesistError
from desist.run.storage.store import RunQuery, StoredRun
from desist.server.components import Component
from desist.server.dependencies import ApiContext, parse_input
from desist.server.problems import HTTPProblem, problem_from_error
from desist.server.protocols.a2a.encoder import STATES, A2AEncoder, task_of
from desist.server.run_service import OnDisconnect, StartOptions
from desist.server.tokens import Caller
from desist.streams.channel import ChannelClosed

__all__ = ["A2ARequestHandler"]

_BATCH = 64
_PAGE = 50
_STATUSES = {
    pb.TaskState.Value(state): status for status, state in STATES.items() if status is not RunStatus.cancelling
}


class A2ARequestHandler(RequestHandler):
    """The tasks of one workflow or agent."""

    def __init__(self, api: ApiContext, component: Component) -> None:
        self._api, self._service, self._component = api, api.service, component
        self._owner = (api.service.components.kind_of(component), component.id)

    # -- sending

    @validate_request_params
    async def on_message_send(self, params: pb.SendMessageRequest, context: ServerCallContext) -> pb.Task:
        """Start a run, and wait for its end unless `return_immediately` is set.

        A client that disconnects while it waits does not know the task, so the run is cancelled after `Limits.away`.
        """
        caller, waits = _caller(context, "run"), not params.configuration.return_immediately
        with _protocol_errors():
            run_id = await self._start(params, caller, "cancel" if waits else "continue")
            if waits:
                await self._api.wait(context.state["request"], run_id, caller)
            return _task(await self._service.runs.find(run_id, caller))

    @validate_request_params
    async def on_message_send_stream(
        self, params: pb.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """Start a run and stream it. A client that disconnects can subscribe to the task again."""
        caller = _caller(context, "run")
        with _protocol_errors():
            self._api.streams.check(caller)
            run_id = await self._start(params, caller, "continue")
            found = await self._service.runs.find(run_id, caller)
        async with contextlib.aclosing(self._updates(found, caller)) as updates:
            async for update in updates:
                yield update

    async def _start(self, params: pb.SendMessageRequest, caller: Caller, on_disconnect: OnDisconnect) -> str:
        message, configuration = params.message, params.configuration
        if configuration.HasField("task_push_notification_config"):
            raise errors.PushNotificationNotSupportedError
        if message.task_id:
            await self._find(message.task_id, caller)
            raise errors.UnsupportedOperationError("a task takes one message: send the next message without taskId")
        options = StartOptions(session_id=message.context_id or None, on_disconnect=on_disconnect)
        input = _parse_input(self._component, list(message.parts))
        return str((await self._service.start(self._component, input, options, caller)).run_id)

    # -- reading

    @validate_request_params
    async def on_get_task(self, params: pb.GetTaskRequest, context: ServerCallContext) -> pb.Task:
        """Return the task of a run."""
        caller = _caller(context, "read")
        with _protocol_errors():
            return _task(await self._find(params.id, caller))

    @validate_request_params
    async def on_list_tasks(self, params: pb.ListTasksRequest, context: ServerCallContext) -> pb.ListTasksResponse:
        """List runs, newest first. `total_size` is set only if all fit on one page."""
        caller = _caller(context, "read")
        if params.status and params.status not in _STATUSES:
            return pb.ListTasksResponse()  # a state that no run has
        size = min(params.page_size or _PAGE, 100)
        query = RunQuery(
            owners=frozenset({self._owner}),
            session_id=params.context_id or None,
            status=_STATUSES.get(params.status),
            limit=size + 1,
        )
        with _protocol_errors():
            if params.page_token:
                last = await self._find(params.page_token, caller)
                query = replace(query, after=(last.created_at, last.run_id))
            found = await self._service.runs.list(query, caller)
        page, more = found[:size], len(found) > size
        return pb.ListTasksResponse(
            tasks=[_task(run) for run in page],
            next_page_token=page[-1].run_id if more else "",
            page_size=size,
            total_size=0 if more or params.page_token else len(page),
        )

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: pb.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """Stream a live run from its beginning. Artifacts start again, so no text is received twice."""
        caller = _caller(context, "read")
        with _protocol_errors():
            self._api.streams.check(caller)
            found = await self._find(params.id, caller)
            if found.output.status.is_final:
                raise errors.UnsupportedOperationError("the task has ended: use GetTask")
        async with contextlib.aclosing(self._updates(found, caller)) as updates:
            async for update in updates:
                yield update

    async def _find(self, task_id: str, caller: Caller) -> StoredRun:
        found = await self._service.runs.find(task_id, caller)
        if (found.kind, found.owner_id) != self._owner or found.run_id != found.root_run_id:
            raise errors.TaskNotFoundError
        return found

    async def _updates(self, found: StoredRun, caller: Caller) -> AsyncGenerator[Any]:
        with _protocol_errors():
            follower = await self._service.follow(found, None)
        encode = A2AEncoder(found.run_id, found.session_id or found.run_id)
        self._api.streams.count(caller, 1)
        self._service.followers.joined(found.run_id, caller)
        finished = False
        try:
            yield _task(found)
            while True:
                for event in await follower.cursor.get_nowait_async(_BATCH):
                    for update in encode(event):
                        yield _update(update)
        except ChannelClosed:
            finished = True
        except DesistError as error:
            raise errors.InternalError(str(error)) from error
        finally:
            follower.stop(Source.client_disconnected)
            self._api.streams.count(caller, -1)
            self._service.followers.left(found.run_id, caller, lost=not finished)

    # -- cancelling

    @validate_request_params
    async def on_cancel_task(self, params: pb.CancelTaskRequest, context: ServerCallContext) -> pb.Task:
        """Cancel a run and wait until it has ended. `metadata.reason` is the reason as free text."""
        caller = _caller(context, "cancel")
        reason = MessageToDict(params.metadata).get("reason")
        with _protocol_errors():
            await self._find(params.id, caller)
            receipt = await self._service.cancel(
                params.id, caller, by=caller.name, reason=str(reason) if reason else None
            )
            if receipt.outcome not in (Outcome.accepted, Outcome.already_cancelling):
                raise errors.TaskNotCancelableError
            await self._service.settle(receipt, self._service.limits.wait)
            return _task(await self._find(params.id, caller))

    # -- unsupported

    async def on_create_task_push_notification_config(self, params: Any, context: Any) -> NoReturn:
        """There are no push notifications."""
        raise errors.PushNotificationNotSupportedError

    on_get_task_push_notification_config = on_create_task_push_notification_config
    on_list_task_push_notification_configs = on_create_task_push_notification_config
    on_delete_task_push_notification_config = on_create_task_push_notification_config

    async def on_get_extended_agent_card(self, params: Any, context: Any) -> NoReturn:
        """Refuse: there is no extended card."""
        raise errors.ExtendedAgentCardNotConfiguredError


def _caller(context: ServerCallContext, scope: str) -> Caller:
    caller: Caller = context.state["request"].scope["desist.caller"]
    if scope not in caller.scopes:
        raise HTTPException(403, f"this request needs a token with the scope '{scope}'")
    return caller


@contextlib.contextmanager
def _protocol_errors() -> Iterator[None]:
    """Convert our errors to those of the protocol, or to an HTTP status where the protocol has none."""
    try:
        yield
    except (HTTPProblem, DesistError) as error:
        problem = error if isinstance(error, HTTPProblem) else problem_from_error(error)
        known = {404: errors.TaskNotFoundError, 409: errors.UnsupportedOperationError, 422: errors.InvalidParamsError}
        if (kind := known.get(problem.status)) is not None:
            raise kind(problem.detail) from None
        raise HTTPException(problem.status, problem.detail, problem.headers) from None


def _parse_input(component: Component, parts: list[pb.Part]) -> Any:
    """Return the input in a message."""
    kinds = {part.WhichOneof("content") for part in parts}
    if kinds == {"data"} and len(parts) == 1:
        return MessageToDict(parts[0].data)
    if kinds != {"text"}:
        raise errors.ContentTypeNotSupportedError("send text parts, or a single data part")
    return parse_input(component, "\n".join(part.text for part in parts))


def _task(run: StoredRun) -> pb.Task:
    task: pb.Task = ParseDict(task_of(run), pb.Task())
    return task


def _update(encoded: dict[str, Any]) -> Any:
    if "statusUpdate" in encoded:
        return ParseDict(encoded["statusUpdate"], pb.TaskStatusUpdateEvent())
    return ParseDict(encoded["artifactUpdate"], pb.TaskArtifactUpdateEvent())
