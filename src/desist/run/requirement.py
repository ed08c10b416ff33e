"""Public import path of what a paused run waits for, and of the answers."""

from desist.run.records.message import UserFeedbackOption, UserFeedbackQuestion, UserInputField
from desist.run.records.requirement import Answer, AnswerOutcome, AnswerReceipt, Requirement, RequirementState
from desist.run.records.run_requirement import RunRequirement

__all__ = [
    "Answer",
    "AnswerOutcome",
    "AnswerReceipt",
    "Requirement",
    "RequirementState",
    "RunRequirement",
    "UserFeedbackOption",
    "UserFeedbackQuestion",
    "UserInputField",
]
