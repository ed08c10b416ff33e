"""History of earlier runs for the next run: messages for a model, and a workflow's runs as text.

Created from loaded outputs; this module does not access a store. Used by agents, steps and sessions.
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

#: Text in the history in place of a missing answer.
STOPPED = "[This was stopped before there was an answer.]"
FAILED = "[This failed before there was an answer.]"
#: Suffix of a partial answer in a history in text form.
CUT_OFF = "[stopped here]"


def run_messages(run: RunOutput, used_ids: set[str] | None = None) -> list[Message]:
    """Return the messages of one run without system messages, so that any message may follow.

    Every call has its result. The last message is the answer: the text before a cancel, or a note that there was no
    answer. The list is empty for a run without messages.

    Parameters:
        run: an ended run.
        used_ids: ids of earlier calls; see `normalize_history`.
    """
    messages = [message for message in run.messages or [] if message.role not in ("system", "developer")]
    messages = normalize_history(messages, used_ids=used_ids)
    messages = [one for one in messages if one.content or one.tool_calls or one.role in ("user", "tool")]
    if messages and messages[-1].role != "assistant":
        messages.append(Message("assistant", _closing(run), cancelled=run.is_cancelled))
    return messages


def _closing(run: RunOutput) -> str:
    """Return the answer of a run whose model gave none: the content that a tool's result became, or a note."""
    if run.status is RunStatus.completed:
        return content_text(run.content) or "[There was no answer.]"
    return FAILED if run.status is RunStatus.error else STOPPED


def messages_of_runs(runs: Iterable[RunOutput]) -> list[Message]:
    """Return the messages of several runs in order. The ids of their tool calls are made unique.

    A run that another run has continued is omitted: the other run has the same question and the work done before.
    """
    used_ids: set[str] = set()
    all_runs = list(runs)
    continued = {run.continued_from for run in all_runs if run.continued_from is not None}
    return [message for run in all_runs if run.run_id not in continued for message in run_messages(run, used_ids)]


def workflow_history(runs: Sequence[Any], num_runs: int | None = None) -> list[tuple[str, str]]:
    """Return pairs of input and answer of the last ended runs of a workflow, oldest first.

    Parameters:
        runs: outputs of the workflow.
        num_runs: number of runs; None for all.
    """
    ended = [run for run in runs if run.status.is_final]
    if num_runs is not None:
        ended = ended[max(0, len(ended) - num_runs) :]
    return [(content_text(run.input), _answer(run)) for run in ended]


def history_context(runs: Sequence[Any], num_runs: int | None = None) -> str | None:
    """Return `workflow_history` as text for a model, or None if there are no ended runs."""
    pairs = workflow_history(runs, num_runs)
    if not pairs:
        return None
    rounds = "\n\n".join(
        f"[run {number}]\nUser: {question}\nAnswer: {answer}" for number, (question, answer) in enumerate(pairs, 1)
    )
    return f"<workflow_history>\n{rounds}\n</workflow_history>"


def _answer(run: Any) -> str:
    """Return a run's content: marked as partial if the run was cancelled, a note if the run failed."""
    text = content_text(run.content)
    if run.status is RunStatus.cancelled:
        return f"{text}\n{CUT_OFF}" if text else STOPPED
    if run.status is RunStatus.error:
        return FAILED
    return text
