"""AG-UI's verifier accepts every stream: generated workflows, cancelled at any moment, or not at all."""

from __future__ import annotations

import json

from agui_reference_client import Judge
from cancel_trial import MODES, Mode
from generated_workflows import GENERATED, Case, pick, trees
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow_descriptions import Node

from desist.server.protocols.agui.encoder import AGUIEncoder

STREAMED = [mode for mode in MODES if mode.stream]


def check(case: Case, judge: Judge, outcome: str) -> None:
    """Verify what the reader of a run has received."""
    telling = AGUIEncoder(case.trial.run_id, "thread")
    told = b"".join([telling(event) for event in case.trial.events]).decode()
    events = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line]
    messages = judge.verify(events)
    assert events[-1]["type"] == "RUN_FINISHED" and events[-1]["outcome"]["type"] == outcome
    ids = [message["id"] for message in messages]
    assert len(ids) == len(set(ids))


@settings(GENERATED, max_examples=60)
@given(tree=trees(), number=st.integers(0, 100), mode=st.sampled_from(STREAMED), between=st.booleans())
def test_cancelled_anywhere(judge: Judge, tree: Node, number: int, mode: Mode, between: bool) -> None:
    """Whatever was running: all open items end, then the run, as cancelled."""
    visit = pick(tree, number)
    with Case(tree, mode) as case:
        case.stop_at(visit, between=between and visit.is_leaf, beside_blocked=number % 2 == 0)
    check(case, judge, "cancelled")


@settings(GENERATED, max_examples=30)
@given(tree=trees(), mode=st.sampled_from(STREAMED))
def test_left_alone(judge: Judge, tree: Node, mode: Mode) -> None:
    """The same for runs that are not cancelled."""
    with Case(tree, mode) as case:
        case.trial.start().finish()
    check(case, judge, "success")
