"""Answer what a paused run waits for, from any thread; with a database, from any process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from desist.run.records.ids import require_id
from desist.run.records.requirement import Answer, AnswerReceipt, Requirement
from desist.run.storage.pause_store import PauseStore, pause_store
from desist.run.storage.paused_runs import paused_runs
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import Database, RunStore, store_of
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["aanswer", "answer", "apending", "pending"]


def answer(
    run_id: str,
    requirement_id: str,
    decision: str,
    *,
    by: str | None = None,
    note: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    result: str | None = None,
    digest: str | None = None,
    db: Database | RunStore | None = None,
) -> AnswerReceipt:
    """Answer one requirement of a paused run. The first answer counts; the receipt says which one that was.

    The answer is durable when this function returns. It does not continue the run: `continue_run` does, in any process,
    once all requirements are answered.

    Parameters:
        run_id: the id of the paused run.
        requirement_id: the id of the requirement.
        decision: "confirm", "reject" or "edit" for a confirmation; "input" for values; "feedback" for chosen options;
            "result" for a tool that the program executes. "reject" is possible for all.
        by: the name of whoever answers.
        note: of a rejection: the model gets it as the result of the call.
        arguments: of "edit": the arguments to call the tool with, all of them.
        values: of "input": the values by field; of "feedback": lists of labels by question.
        result: of "result": the result of the tool, for the model.
        digest: the `digest` of the requirement as it was shown: if the stored one differs, the answer is `stale`. None
            doesn't compare.
        db: the database of the run. None: this process, which also remembers where its runs are paused.

    Raises:
        ConfigurationError: the decision, or what it carries, does not fit the requirement. Nothing is stored.
        RuntimeError: a database must be asked, and this thread runs an event loop: await `aanswer`.
        StoreError: the answer is not confirmed as stored.
    """
    run_id, requirement_id = require_id(run_id, "run_id"), require_id(requirement_id, "requirement_id")
    made = Answer(
        decision=decision,
        by=by,
        note=note,
        arguments=None if arguments is None else dict(arguments),
        values=None if values is None else dict(values),
        result=result,
        digest=digest,
    )
    return _store(run_id, db, "answer()").answer(run_id, requirement_id, made)


async def aanswer(
    run_id: str,
    requirement_id: str,
    decision: str,
    *,
    by: str | None = None,
    note: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    result: str | None = None,
    digest: str | None = None,
    db: Database | RunStore | None = None,
) -> AnswerReceipt:
    """Answer from async code; see `answer`. If the awaiting task is cancelled, the answer may still be stored."""
    carried: dict[str, Any] = {"note": note, "arguments": arguments, "values": values, "result": result}
    carried |= {"digest": digest, "by": by, "db": db}
    return await to_daemon_thread(lambda: answer(run_id, requirement_id, decision, **carried), "desist-db-answer")


def pending(run_id: str, *, db: Database | RunStore | None = None) -> list[Requirement]:
    """Return the requirements of a run that is or was paused, in no order: open ones, and answered ones with who, when.

    Parameters:
        run_id: the id of the run.
        db: as for `answer`.

    Raises:
        StoreError: the database can't be read.
    """
    run_id = require_id(run_id, "run_id")
    return _store(run_id, db, "pending()").requirements(run_id)


async def apending(run_id: str, *, db: Database | RunStore | None = None) -> list[Requirement]:
    """Do what `pending` does, from async code."""
    return await to_daemon_thread(lambda: pending(run_id, db=db), "desist-db-answer")


def _store(run_id: str, db: Database | RunStore | None, where: str) -> PauseStore:
    """Return who decides about a run."""
    store: object = store_of(db, where) if db is not None else paused_runs.store_of(run_id)
    if shared_store(store) is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(f"{where} would block this event loop: its database must be asked. Await a{where[:-2]}(...)")
    return pause_store(store)
