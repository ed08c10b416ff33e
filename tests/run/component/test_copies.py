"""Copies of agents and workflows with another database, as a server makes them."""

from __future__ import annotations

import copy

from desist import Agent, Step, Workflow
from desist.db import InMemoryDb
from desist.testing import ScriptedModel


def test_a_copy_with_another_database_reads_and_writes_there() -> None:
    """Runs, sessions and continuing of a copy use the copy's `db`; the original sees none of them."""
    for made in (Agent(ScriptedModel(["hi"]), name="A"), Workflow("W", steps=[Step("s", executor=lambda given: "hi")])):
        served = copy.copy(made)
        served.db = InMemoryDb()
        output = served.run("x")
        assert served.get_run_output(output.run_id) == output
        assert served.get_session().session_id == output.session_id
        assert list(served.follow(output.run_id))[-1].is_terminal
        assert made.get_run_output(output.run_id) is None
