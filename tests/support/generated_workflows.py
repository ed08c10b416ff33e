"""Generated workflows, brought to any moment and cancelled there; and what must hold of the result.

The cases are generated from a description of the tree, see `workflow_descriptions`; Hypothesis only chooses, the same
ones each time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped
from event_grammar import check_grammar
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from workflow_descriptions import LEAVES, Node, Results, Script, Visit, content, visits

CONTAINERS = ("steps", "parallel", "loop", "if", "else", "router", "workflow")
GENERATED = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def _leaves() -> st.SearchStrategy[Node]:
    return st.builds(Node, st.sampled_from(LEAVES))


def _containers(inside: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(inside, min_size=1, max_size=3).map(tuple)
    return st.builds(Node, st.sampled_from(CONTAINERS), several, st.booleans())


@st.composite
def trees(draw: Any) -> Node:
    """A container in a workflow, at most three deep, with a step before and one after it."""
    deep = _containers(st.one_of(_leaves(), _containers(st.one_of(_leaves(), _containers(_leaves())))))
    return Node("steps", (Node("sync"), draw(deep), Node("async"))).named()


def every_point(mode: Mode) -> list[tuple[Node, int]]:
    """Each container with each kind of leaf in it, in small: all of their points."""
    found = []
    for kind in CONTAINERS:
        tree = Node("steps", (Node(kind, (Node("agent"), Node("sync")), mode.asynchronous), Node("async"))).named()
        found += [(tree, number) for number in range(len(list(visits(tree, Counter()))))]
    return found


class Case:
    """One tree, one mode, one moment."""

    def __init__(self, tree: Node, mode: Mode) -> None:
        self.tree, self.mode = tree, mode
        self.journal = Journal()
        self.script = Script(tree, self.journal)
        self.trial = Trial(self.script.workflow, mode)

    def __enter__(self) -> Case:
        self.script.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.script.__exit__()

    def stop_at(self, visit: Visit, *, between: bool, beside_blocked: bool) -> None:
        """Bring the run to the visit and what runs beside it to a halt or an end; cancel; check what is left."""
        script, receipts = self.script, []
        held = script.hold(visit.key)
        gates = [script.hold(key) for beside in visit.beside for key in beside.firsts] if beside_blocked else []
        self.trial.start()
        held.wait_reached()
        for gate in gates:
            gate.wait_reached()
        if not beside_blocked:
            for beside in visit.beside:
                script.wait_ended(*beside.end)
        if between:
            script.at_end[visit.key] = lambda: receipts.append(self.trial.cancel())
            held.open()
            script.wait_ended(*visit.key)
            self.trial.finish()
        else:
            receipts.append(self.trial.cancel())
        entered, ended = list(script.entered), list(script.ended)
        assert receipts[0].wait(PATIENCE), receipts
        self.trial.finish()
        check_stopped(self.trial, receipts[0])
        assert script.entered == entered, "something started after the cancel"
        assert script.ended == ended, "something ended well after the cancel"
        self.check(visit, between)

    def check(self, visit: Visit, between: bool) -> None:
        """What is stored is what finished, as it was; what was interrupted says so; the stream is well formed."""
        script, stored = self.script, self.journal.last(self.trial.run_id)
        leaves = {name for name, _ in script.entered if not name.endswith("?")}
        results = Results.of(stored["step_results"], leaves)
        done = sorted(content(key) for key in script.ended if key[0] in leaves)
        assert sorted(results.finished) == done
        running = sorted(
            name for name, number in script.entered if name in leaves and (name, number) not in script.ended
        )
        assert sorted(name for name, _ in results.cancelled) == running
        if visit.is_leaf and not between:
            partial = None if visit.kind in ("sync", "async") else f"{visit.key[0]}#"
            assert (visit.key[0], partial) in results.cancelled
        statuses = {run_id: self.journal.statuses(run_id) for run_id, _, _ in self.journal.saved}
        for run_id, saved in statuses.items():
            ends = [status for status in saved if status.is_final]
            assert len(ends) == 1 and saved[-1] is ends[0], (run_id, saved)
        assert [run_id for run_id, status, _ in self.journal.saved if status.is_final][-1] == self.trial.run_id
        self.check_stream()

    def check_stream(self) -> None:
        """The stream is well formed, and tells of every leaf that was entered, in nested workflows too."""
        if self.mode.stream:
            check_grammar(self.trial.events, self.trial.run_id)
            told = Counter(event.step_name for event in self.trial.events if event.event == "StepStarted")
            entered = Counter(name for name, _ in self.script.entered if not name.endswith("?"))
            assert not entered - told, "the stream doesn't tell of what began"


def pick(tree: Node, number: int) -> Visit:
    points = list(visits(tree, Counter()))
    return points[number % len(points)]
