"""A cancel while an odd stream is being read: the text stays, and no call that was being received is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_dialects import SPEECHES, Speech, typed
from http_raw_server import SSE_HEAD, Connection, serving
from wire import KEY, delta, piece

from desist import Agent, RunStatus

ARGUMENTS = '{"path":"/tmp"}'


def call(speech: Speech, arguments: str) -> bytes:
    """Return the events of a call, as far as its arguments go."""
    if speech.name == "chat":
        return delta({"tool_calls": [piece(0, "a", "wipe", "")]}) + delta(
            {"tool_calls": [piece(0, arguments=arguments)]}
        )
    if speech.name == "responses":
        item = {"type": "function_call", "id": "fc", "call_id": "a", "name": "wipe"}
        done = typed("response.output_item.done", output_index=1, item={**item, "arguments": arguments})
        added = typed("response.output_item.added", output_index=1, item=item)
        part = typed("response.function_call_arguments.delta", output_index=1, item_id="fc", delta=arguments)
        return added + part + (done if arguments == ARGUMENTS else b"")
    start = typed("content_block_start", index=1, content_block={"type": "tool_use", "id": "a", "name": "wipe"})
    return start + typed("content_block_delta", index=1, delta={"partial_json": arguments})


@pytest.mark.parametrize("arguments", ["", '{"pa', ARGUMENTS])
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_call_that_was_being_received_is_not_made(speech: Speech, arguments: str) -> None:
    """Also one that had arrived whole: nothing says yet that the answer is over. The text is kept."""
    made: list[str] = []

    def wipe(path: str = "/") -> str:
        """Delete all."""
        made.append(path)
        return "wiped"

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(SSE_HEAD)
        connection.chunk(b"data: ping\n\n" + speech.text("<think>SECRET</think>Let me ") + call(speech, arguments))
        connection.chunk(speech.text("see."))
        connection.gone()

    with serving(script) as server:
        agent = Agent(speech.model("m", base_url=server.url, api_key=KEY), tools=[wipe])
        events = agent.run("Hi", stream=True)
        said = ""
        for event in events:
            said += event.content or ""
            if said.endswith("see."):
                break
        receipt = agent.cancel(events.run_id)
        assert receipt.wait(20)
        output: Any = agent.get_run_output(events.run_id)
    assert made == [] and output.status is RunStatus.cancelled
    assert output.content == "Let me see." and output.finish_reason is None
    assert output.tools == [] and all(not message.tool_calls for message in output.messages)
    assert "SECRET" not in json.dumps([message.content for message in output.messages])


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_cancel_in_the_middle_of_the_reasoning(speech: Speech) -> None:
    """What was thought is not taken for text of the answer."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(SSE_HEAD)
        connection.chunk(speech.text("<think>SECRET") + speech.text(" and more</thi"))
        connection.gone()

    with serving(script) as server:
        agent = Agent(speech.model("m", base_url=server.url, api_key=KEY))
        events = agent.run("Hi", stream=True, stream_events=True)
        for event in events:
            if "more" in (getattr(event, "reasoning_content", None) or ""):
                break
        assert agent.cancel(events.run_id).wait(20)
        output: Any = agent.get_run_output(events.run_id)
    assert output.status is RunStatus.cancelled and not output.content
