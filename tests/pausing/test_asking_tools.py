"""The toolkits with which the model asks a human for values, or to choose."""

from __future__ import annotations

import json

from desist import Agent
from desist.testing import Call, ScriptedModel
from desist.tools.user_control_flow import UserControlFlowTools
from desist.tools.user_feedback import UserFeedbackTools


def test_the_model_asks_for_values() -> None:
    """The fields that the model names are filled in by a human; the values are the result of the call."""
    fields = [{"field_name": "city", "field_type": "str", "field_description": "where to"}]
    script = [Call("get_user_input", {"user_input_fields": fields}), "done"]
    agent = Agent(ScriptedModel(script), tools=[UserControlFlowTools()])
    out = agent.run("book")
    [requirement] = out.active_requirements
    assert requirement.needs_user_input
    assert [(one.name, one.description) for one in requirement.user_input_schema or ()] == [("city", "where to")]
    requirement.provide_user_input({"city": "Oslo"})
    done = agent.continue_run(out)
    assert done.content == "done" and json.loads(done.tools[0].result or "") == {"city": "Oslo"}


def test_the_model_lets_choose() -> None:
    """The options that the model names are chosen by a human; the labels are the result of the call."""
    questions = [{"question": "Which?", "options": [{"label": "a"}, {"label": "b"}], "multi_select": True}]
    agent = Agent(ScriptedModel([Call("ask_user", {"questions": questions}), "done"]), tools=[UserFeedbackTools()])
    out = agent.run("choose")
    [requirement] = out.active_requirements
    assert requirement.needs_user_feedback and requirement.pause_type == "user_feedback"
    requirement.provide_user_feedback({"Which?": ["b"]})
    done = agent.continue_run(out)
    assert json.loads(done.tools[0].result or "") == {"Which?": ["b"]}
    [question] = done.requirements[0].user_feedback_schema or []
    assert [option.selected for option in question.options or ()] == [False, True]
