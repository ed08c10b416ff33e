"""Guarantee 3. Upstream stops: wherever a model call stands, a cancel closes its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cancel_trial import (
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_record,
    check_stopped,
    check_three,
    stop_at,
    three_steps,
)
from promise_scenarios import TEXT, WORDS, spoken

from desist import Agent, Step, Workflow
from desist.cancel import RunStatus, Source
from desist.models.http.model import HttpModel
from desist.testing import HANG, LoopbackProvider, Reply


@pytest.fixture
def model(model_of_each_api: HttpModel) -> HttpModel:
    return model_of_each_api


Moment = Callable[[LoopbackProvider, Trial], object]


MOMENTS: dict[str, tuple[Reply, Moment, int]] = {
    "headers": (Reply(before_headers=HANG), lambda p, t: p.wait_request(), 0),
    "first token": (Reply(tokens=WORDS, before_first_token=HANG), lambda p, t: p.wait_request().wait_headers(), 0),
    "mid-stream": (Reply(tokens=WORDS, token_interval=0.01), lambda p, t: spoken(p, t, 5), 5),
    "stalled": (Reply(tokens=WORDS, stall_after=5), lambda p, t: spoken(p, t, 5), 5),
    "flood": (Reply(tokens=100_000, flood=True), lambda p, t: spoken(p, t, 50), 50),
}


def _check_provider(provider: LoopbackProvider, receipt: Any, requests: int = 1) -> None:
    """Its connection was closed by us, at once, and nobody asked again."""
    exchange = provider.exchanges[-1]
    exchange.wait_closed(PATIENCE)
    exchange.wait_over(PATIENCE)
    assert exchange.closed_by == "client" and not exchange.finished
    assert exchange.tokens_sent_after_close <= 2
    assert len(provider.exchanges) == requests
    assert receipt.upstream_closed == 1
    provider.wait_open_connections(0, PATIENCE)


@pytest.mark.parametrize("by_id", ["root", "agent"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_model_call_in_a_workflow(
    moment: str, by_id: str, mode: Mode, provider: LoopbackProvider, model: HttpModel, journal: Journal
) -> None:
    """Wherever a model call stands, a cancel by any id ends it, closes its connection and keeps what was said."""
    reply, ready, least = MOMENTS[moment]
    provider.set_default(reply)
    never: list[str] = []
    agent = Agent(model, name="Talker", db=journal)
    trial = Trial(three_steps(Step("talk", agent=agent), journal, never), mode).start()
    receipt = stop_at(trial, lambda: ready(provider, trial), by_id)
    check_stopped(trial, receipt)
    _check_provider(provider, receipt)
    whole = "".join(f"t{i} " for i in range(100_000)) if moment == "flood" else TEXT
    check_three(trial, never, whole.startswith)
    if mode.stream:
        said = trial.output.content or ""
        assert len(said.split()) >= least and said.startswith("".join(trial.texts()))
        [of_agent] = [event for event in trial.events if event.event == "RunCancelled"]
        assert of_agent.cancel.source is Source.parent
        assert journal.last(of_agent.run_id)["status"] == "CANCELLED"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_model_call_of_an_agent_alone(
    moment: str, mode: Mode, provider: LoopbackProvider, model: HttpModel, journal: Journal
) -> None:
    """The same holds of an agent that is run by itself."""
    reply, ready, _ = MOMENTS[moment]
    provider.set_default(reply)
    trial = Trial(Agent(model, db=journal), mode).start()
    receipt = stop_at(trial, lambda: ready(provider, trial))
    check_stopped(trial, receipt)
    _check_provider(provider, receipt)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_hundred_streams(asynchronous: bool, provider: LoopbackProvider, model: HttpModel) -> None:
    """A18: a hundred runs that stream at the same time, all cancelled: each is told, and no connection is left."""
    provider.set_default(Reply(tokens=WORDS, token_interval=0.05))
    workflow = Workflow("W", steps=[Agent(model, name="A")])
    ids = [f"many-{asynchronous}-{provider.port}-{i}" for i in range(100)]

    def cancel_all() -> list[Any]:
        for n in range(100):
            provider.wait_request(n + 1).wait_sent(2)
        return [workflow.cancel(run_id, reason="all of you") for run_id in ids]

    if asynchronous:
        receipts, stories = asyncio.run(_read_hundred(workflow, ids, cancel_all))
    else:
        readers = [workflow.run("go", stream=True, run_id=run_id) for run_id in ids]
        receipts = cancel_all()
        stories = [list(reader) for reader in readers]
    for run_id, receipt, events in zip(ids, receipts, stories, strict=True):
        assert receipt and receipt.wait(PATIENCE) and receipt.status is RunStatus.cancelled
        assert [event.run_id for event in events if event.is_terminal] == [run_id]
        assert events[-1].is_cancelled and events[-1].reason == "all of you"
        check_record(workflow.get_run(run_id).cancel, reason="all of you", by=None)
    provider.wait_open_connections(0, PATIENCE)
    for exchange in provider.exchanges:
        assert exchange.tokens_sent_after_close <= 2
    assert len(provider.exchanges) == 100


async def _read_hundred(workflow: Workflow, ids: list[str], cancel_all: Callable[[], Any]) -> tuple[Any, Any]:
    async def read(run_id: str) -> list[Any]:
        return [event async for event in workflow.arun("go", stream=True, run_id=run_id)]

    tasks = [asyncio.create_task(read(run_id)) for run_id in ids]
    receipts = await asyncio.to_thread(cancel_all)
    return receipts, await asyncio.gather(*tasks)
