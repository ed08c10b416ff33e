"""What was said before, for the next run: messages for a model, and the story of a workflow's runs as text.

Made of stored outputs, by agents, steps and sessions. It knows no store and never asks one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from desist.run.events.base import RunStatus, content_text
from desist.run.records.message import Message
from desist.run.records.tool_results import normalize_history

if TYPE_CHECKING:
    from desist.run.outputs.agent import RunOutput

__all__ = ["STOPPED", "history_context", "messages_of_runs", "run_messages", "workflow_history"]

#: What stands in the history for an answer that never came.
STOPPED = "[This was stopped before there was an answer.]"
FAILED = "[This failed before there was an answer.]"
#: What follows a text that was cut off, where the history is told as text.
CUT_OFF = "[stopped here]"


def run_messages(run: RunOutput, used_ids: set[str] | None = None) -> list[Message]:
    """Return what was said in one run, without system messages, so that anything may follow.

    Every call has its result, and an answer stands at the end: what was said before a cancel, or a note that nothing
    was. A run in which nobody said anything gives nothing.

    Parameters:
        taken: ids of calls that were told before; see `normalize_history`.
    """
    said = [message for message in run.messages or [] if message.role not in ("system", "developer")]
    said = normalize_history(said, used_ids=used_ids)
    said = [one for one in said if one.content or one.tool_calls or one.role in ("user", "tool")]
    if said and said[-1].role != "assistant":
        said.append(Message("assistant", _closing(run), cancelled=run.is_cancelled))
    return said


def _closing(run: RunOutput) -> str:
    """Return what stands for the answer where the model gave none: a tool's result that was the answer, or a note."""
    if run.status is RunStatus.completed:
        return content_text(run.content) or "[There was no answer.]"
    return FAILED if run.status is RunStatus.error else STOPPED


def messages_of_runs(runs: Iterable[RunOutput]) -> list[Message]:
    """Return the messages of several runs, one after the other; an id names one call in all of them.

    A run that another one has gone on with isn't told: the other has the same question, and what was done.
    """
    taken: set[str] = set()
    told = list(runs)
    continued = {run.continued_from for run in told if run.continued_from is not None}
    return [message for run in told if run.run_id not in continued for message in run_messages(run, taken)]


def workflow_history(runs: Sequence[Any], num_runs: int | None = None) -> list[tuple[str, str]]:
    """Return what was asked and what was answered in the last ended runs of a workflow, the oldest first.

    Parameters:
        num_runs: how many; None for all.
    """
    ended = [run for run in runs if run.status.is_final]
    if num_runs is not None:
        ended = ended[max(0, len(ended) - num_runs) :]
    return [(content_text(run.input), _answer(run)) for run in ended]


def history_context(runs: Sequence[Any], num_runs: int | None = None) -> str | None:
    """Return the same as text for a model, or None if there is nothing to tell."""
    told = workflow_history(runs, num_runs)
    if not told:
        return None
    rounds = "\n\n".join(
        f"[run {number}]\nUser: {asked}\nAnswer: {answer}" for number, (asked, answer) in enumerate(told, 1)
    )
    return f"<workflow_history>\n{rounds}\n</workflow_history>"


def _answer(run: Any) -> str:
    """Return a run's content; of one that was stopped or has failed, what it had said, marked."""
    text = content_text(run.content)
    if run.status is RunStatus.cancelled:
        return f"{text}\n{CUT_OFF}" if text else STOPPED
    if run.status is RunStatus.error:
        return FAILED
    return text
