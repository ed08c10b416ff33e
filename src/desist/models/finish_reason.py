"""Why an answer ended, in one vocabulary for all providers, and which calls of the answer may be cut off.

Called by `model_turn` of the agent and by `desist.models.http.answer`. Knows nothing of any API but its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from desist.models.tool_call_assembler import is_whole
from desist.run.records.message import ToolCall

__all__ = ["calls_cut_off", "is_cut_off", "known_finish_reason", "normalized_finish_reason"]

#: The words of providers for each reason, in lower case.
_WORDS: Final = {
    "stop": "stop end_turn stop_sequence eos eos_token end complete completed finished done normal success",
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "length": "length max_tokens max_output_tokens max_length model_length token_limit max_completion_tokens"
    " model_context_window_exceeded context_window_exceeded context_length_exceeded max_context_length",
    "content_filter": "content_filter content_filtered safety recitation prohibited_content blocklist blocked spii"
    " image_safety language sensitive guardrail_intervened moderation error_toxic",
    "refusal": "refusal refused",
    "error": "error failed failure network_error malformed_function_call unexpected_tool_call"
    " insufficient_system_resource server_error error_limit",
    "abort": "abort aborted cancel cancelled canceled user_cancelled user_cancel interrupted timeout",
    "incomplete": "incomplete",
}
_REASONS: Final = {word: reason for reason, words in _WORDS.items() for word in words.split()}
#: What words that aren't listed contain, for the reasons in this order.
_PARTS: Final = [
    (reason, re.compile(parts))
    for reason, parts in {
        "content_filter": "filter|safety|block|prohibit|moderat|guardrail|policy|violat|sensitive",
        "refusal": "refus",
        "error": "error|fail|exception|malformed|invalid|unexpected|unavailable|overload",
        "abort": "abort|cancel|interrupt|disconnect|time_?out|timed_out|kill",
        "length": "length|max_|limit|too_long|truncat|exceeded",
        "tool_calls": "tool|function",
        "stop": "^(stop|end|eos|complete|finish|done)",
    }.items()
]
#: Words of providers for "not known", sent also in chunks before the last.
_UNKNOWN: Final = ("", "null", "none", "undefined", "unspecified", "unknown")
_FINISHED: Final = (None, "stop", "tool_calls")


def normalized_finish_reason(told: str | None) -> str | None:
    """Return the reason under its usual name; a reason without one in lower case, an unknown one as None."""
    if told is None or told in _FINISHED:
        return told
    word = _plain(told)
    return None if word in _UNKNOWN else _named(word) or word


def known_finish_reason(told: object) -> str | None:
    """Return the reason under its usual name; None for anything that isn't the word of a provider for a reason."""
    return _named(_plain(told)) if isinstance(told, str) else None


def _plain(told: str) -> str:
    """Return a word in lower case, with `_` between its parts, without the name of its type."""
    word = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", told.strip().rpartition(".")[2]).lower()
    return word.removeprefix("finish_reason_")


def _named(word: str) -> str | None:
    return _REASONS.get(word) or next((reason for reason, parts in _PARTS if parts.search(word)), None)


def is_cut_off(reason: str | None) -> bool:
    """Return whether an answer that ended for this (normalized) reason may lack its end."""
    return reason not in _FINISHED


def calls_cut_off(calls: Sequence[ToolCall], reason: str | None) -> set[str]:
    """Return the ids of the calls whose arguments may be cut off, in an answer that ended for this reason.

    These are the calls whose arguments aren't whole, and the last one: some servers close the JSON of a call that they
    cut. After a reason that desist doesn't know, a last call with whole arguments counts as whole.
    """
    if not calls or not is_cut_off(reason):
        return set()
    cut = {call.id for call in calls if not is_whole(call.arguments)}
    return cut | {calls[-1].id} if reason in _WORDS else cut
