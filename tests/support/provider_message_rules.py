"""What providers insist on in a list of messages. A stricter reading than any one of them has."""

from __future__ import annotations

from collections.abc import Sequence

from desist.run.records.message import Message

__all__ = ["check_messages"]


def check_messages(messages: Sequence[Message]) -> None:
    """System first and once; user and assistant take turns; each call has one result, next, in order; nothing empty."""
    said = list(messages)
    if said and said[0].role == "system":
        said.pop(0)
    assert said, "nothing is said"
    assert said[0].role == "user", f"it begins with {said[0].role}"
    seen: set[str] = set()
    place, last = 0, ""
    while place < len(said):
        message = said[place]
        place += 1
        assert message.role in ("user", "assistant"), f"{message.role} at {place}"
        if message.role == "user":
            assert last != "user", "two users' messages in a row"
        elif last == "assistant":
            raise AssertionError("two answers in a row")
        assert message.content or message.tool_calls, f"message {place} is empty"
        last = message.role
        for call in message.tool_calls or []:
            assert call.id not in seen, f"the id {call.id} names two calls"
            seen.add(call.id)
            assert call.name, "a call without a name"
            result = said[place] if place < len(said) else None
            assert result is not None and result.role == "tool", f"the call {call.id} has no result"
            assert result.tool_call_id == call.id, f"{result.tool_call_id} answers {call.id}"
            assert result.content is not None
            place += 1
            last = "tool"
    assert said[-1].role in ("user", "tool"), "the last word isn't the user's or a tool's"
