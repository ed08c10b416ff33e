"""Streams as odd servers send them, made at random, each with what is to be read from it. Used by `fuzz` and tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

__all__ = ["READERS", "OddStream", "mutated", "odd_stream"]

READERS = ("chat", "responses", "messages")
TOOLS = ("weather", "now", "get_weather")
_NOISE = [
    *[b"data:\n\n", b"data: null\n\n", b": ping\n\n", b"event: ping\ndata: ping\n\n", b"id: 1\n\n", b"data: {}\n\n"],
    *[b"data: []\n\n", b"data: 0\n\n", b"\n\n", b'data: {"type": "ping"}\n\n', b"retry: 3\n\n", b"x\n\n"],
]
_ODD: list[Any] = [None, "", 0, -1, 1.5, True, [], {}, [{}], {"x": [1]}, "x" * 40, 10**30, [[["x"]]]]
_EXTRA = [
    "id",
    "created",
    "model",
    "usage",
    "x_groq",
    "timings",
    "system_fingerprint",
    "sequence_number",
    "obfuscation",
]
_TEXTS = [
    "the ",
    "dragon ",
    "<b>",
    "é",
    "\u2028",
    "\n\n",
    '"',
    "\\",
    "data: ",
    "{",
    "}",
    "[DONE]",
    "😀",
    "</think>",
    " ",
]


@dataclass
class OddStream:
    """A stream in chunks, and what it says."""

    reader: str
    body: bytes
    text: str = ""
    thought: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)  #: names, and arguments as JSON values


def odd_stream(random: Random) -> OddStream:
    """Return a stream for one of the readers whose content can be told."""
    made = OddStream(random.choice(READERS), b"")
    texts = [random.choice(_TEXTS) for _ in range(random.randint(0, 6))]
    if texts:
        texts[0] = "w" + texts[0]  # what begins with a tag or a blank is another matter
    made.text = "".join(texts)
    if random.random() < 0.3:
        made.thought = "hm " * random.randint(1, 3)
    for number in range(random.choice((0, 0, 1, 1, 2, 3))):
        made.calls.append((random.choice(TOOLS), {"n": number, "s": random.choice(_TEXTS) * random.randint(0, 3)}))
    if not (texts or made.calls):
        texts, made.text = ["w"], "w"
    events = _EVENTS[made.reader](random, made, texts)
    made.body = _framed(random, events)
    return made


def mutated(random: Random, body: bytes) -> bytes:
    """Return the bytes with some of them changed, lost, doubled, or replaced by odd JSON."""
    data = bytearray(body)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 8, 40)))
        kind = random.randrange(6)
        if kind == 0:
            del data[at:end]
        elif kind == 1:
            data[at:at] = data[at:end]
        elif kind == 2:
            data[at:end] = bytes(random.randrange(256) for _ in range(end - at))
        elif kind == 3:
            data[at:end] = json.dumps(random.choice(_ODD)).encode()
        elif kind == 4:
            data[at:at] = random.choice(
                [b"\n", b"\n\n", b"data: ", b"event: error\n", b"{", b"}", b"[" * 300, b'"', b"null", b"[DONE]"]
            )
        else:
            colon = data.find(b":", at)
            if colon >= 0:
                data[colon + 1 : colon + 1 + random.randint(1, 6)] = json.dumps(random.choice(_ODD)).encode()
    return bytes(data)


def _framed(random: Random, events: list[Any]) -> bytes:
    """Return the events as bytes, with noise between them and any line end."""
    space = random.choice((b" ", b"", b"   "))
    parts = []
    for event in events:
        if random.random() < 0.25:
            parts.append(random.choice(_NOISE))
        named = isinstance(event, dict) and "type" in event and random.random() < 0.8
        name = b"event: " + event["type"].encode() + b"\n" if named else b""
        data = event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=random.random() < 0.5).encode()
        parts.append(name + b"data:" + space + data + b"\n\n")
    body = b"".join(parts)
    return body.replace(b"\n", random.choice((b"\n", b"\n", b"\r\n", b"\r")))


def _with_extras(random: Random, event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with fields of odd types that nobody needs."""
    if random.random() < 0.4:
        event.setdefault(random.choice(_EXTRA), random.choice(_ODD))
    return event


def _cut(random: Random, text: str, most: int = 4) -> list[str]:
    """Return a text in pieces, none of them empty."""
    cuts = sorted({random.randrange(1, len(text)) for _ in range(random.randrange(most))}) if len(text) > 1 else []
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _chat(random: Random, made: OddStream, texts: list[str]) -> list[Any]:
    def chunk(delta: Any, reason: str | None = None) -> dict[str, Any]:
        return _with_extras(random, {"choices": [_with_extras(random, {"delta": delta, "finish_reason": reason})]})

    events: list[Any] = [chunk({"role": "assistant"})] if random.random() < 0.5 else []
    if made.thought:
        where = random.choice(["reasoning_content", "reasoning", "tags", "parts"])
        for part in _cut(random, made.thought):
            if where == "parts":
                events.append(chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": part}]}]}))
            elif where != "tags":
                events.append(chunk({where: part}))
        if where == "tags":
            events += [chunk({"content": part}) for part in _cut(random, f"<think>{made.thought}</think>", 9)]
    as_parts = random.random() < 0.2
    events += [chunk({"content": [{"type": "text", "text": text}] if as_parts else text}) for text in texts]
    events += [chunk({"tool_calls": pieces}) for pieces in _chat_calls(random, made)]
    reason = random.choice(["stop", "tool_calls", "STOP", "eos", "end_turn"]) if random.random() < 0.9 else None
    if reason is not None:
        events.append(chunk({}, reason))
    if random.random() < 0.5:
        events.append({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": random.choice(_ODD)}})
    if reason is None or random.random() < 0.7:
        events.append(b"[DONE]")
    return events


def _chat_calls(random: Random, made: OddStream) -> list[list[dict[str, Any]]]:
    """Return the pieces of the calls, chunk by chunk, in one of the ways in which servers tell them apart."""
    indexes = random.choice(["own", "zero", "none", "text"])
    ids = random.choice(["first", "every", "none"])
    names = random.choice(["first", "every"])
    if ids == "every" and names == "first" and random.random() < 0.3:
        ids = "changing"
    per_call = []
    for number, (name, arguments) in enumerate(made.calls):
        text = json.dumps(arguments)
        parts: list[Any] = [arguments] if random.random() < 0.1 else _cut(random, text)
        if len(parts) > 1 and names == "first" and random.random() < 0.3:
            parts.insert(0, "")
        pieces = []
        for nth, part in enumerate(parts):
            function: dict[str, Any] = {"arguments": part}
            if nth == 0 or names == "every":
                function["name"] = name
            piece: dict[str, Any] = {"function": function}
            if indexes != "none":
                piece["index"] = {"own": number, "zero": 0, "text": str(number)}[indexes]
            if ids == "changing" or (ids == "every") or (ids == "first" and nth == 0):
                piece["id"] = f"c{number}" if ids != "changing" or nth == 0 else f"x{number}-{nth}"
            pieces.append(piece)
        per_call.append(pieces)
    if ids == "every" and random.random() < 0.5:  # interleaved
        order = [pieces.pop(0) for pieces in per_call if pieces]
        rest = [piece for pieces in per_call for piece in pieces]
        return [[piece] for piece in order + rest]
    flat = [piece for pieces in per_call for piece in pieces]
    if random.random() < 0.2 and all(len(pieces) == 1 for pieces in per_call):
        return [flat]
    return [[piece] for piece in flat]


def _responses(random: Random, made: OddStream, texts: list[str]) -> list[Any]:
    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return _with_extras(random, {"type": f"response.{kind}", **fields})

    events: list[Any] = [event("created", response={"status": "in_progress"})]
    output: list[dict[str, Any]] = []
    if made.thought:
        events += [event("reasoning_text.delta", output_index=0, delta=part) for part in _cut(random, made.thought)]
        output.append({"type": "reasoning", "summary": [{"text": made.thought}]})
    if texts:
        message = {"type": "message", "content": [{"type": "output_text", "text": made.text}]}
        how = random.choice(["deltas", "deltas", "done", "item", "end"])
        if how == "deltas":
            events += [event("output_text.delta", output_index=1, delta=text) for text in texts]
        if how in ("deltas", "done"):
            events.append(event("output_text.done", output_index=1, text=made.text))
        if how in ("deltas", "done", "item"):
            events.append(event("output_item.done", output_index=1, item=message))
        output.append(message)
    zero = random.random() < 0.3
    for number, (name, arguments) in enumerate(made.calls):
        item = {"type": "function_call", "id": f"fc{number}", "call_id": f"c{number}", "name": name}
        text = json.dumps(arguments)
        place = {} if zero and random.random() < 0.3 else {"output_index": 0 if zero else 2 + number}
        how = random.choice(["deltas", "done", "end"])
        if how == "deltas":
            events.append(event("output_item.added", **place, item={**item, "arguments": random.choice(["", "{}"])}))
            for part in _cut(random, text):
                events.append(event("function_call_arguments.delta", **place, item_id=item["id"], delta=part))
        if how != "end":
            events.append(event("output_item.done", **place, item={**item, "arguments": text}))
        output.append({**item, "arguments": text})
    usage = random.choice([None, {"input_tokens": 1, "output_tokens": random.choice(_ODD)}, random.choice(_ODD)])
    events.append(event("completed", response={"status": "completed", "output": output, "usage": usage}))
    return events


def _messages(random: Random, made: OddStream, texts: list[str]) -> list[Any]:
    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return _with_extras(random, {"type": kind, **fields})

    zero = random.random() < 0.3
    index = 0
    events: list[Any] = [event("message_start", message={"content": [], "usage": random.choice(_ODD)})]

    def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        nonlocal index
        place = {"index": 0 if zero else index}
        index += 1
        events.append(event("content_block_start", **place, content_block=start))
        events.extend(event("content_block_delta", **place, delta=_with_extras(random, delta)) for delta in deltas)
        if random.random() < 0.8:
            events.append(event("content_block_stop", **place))

    if made.thought:
        parts = _cut(random, made.thought)
        block({"type": "thinking", "thinking": ""}, [{"type": "thinking_delta", "thinking": part} for part in parts])
    if texts:
        block({"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in texts])
    for number, (name, arguments) in enumerate(made.calls):
        start = {"type": "tool_use", "id": f"t{number}", "name": name, "input": {}}
        parts = _cut(random, json.dumps(arguments))
        block(start, [{"type": "input_json_delta", "partial_json": part} for part in parts])
    reason = random.choice(["end_turn", "tool_use", "stop", None])
    if reason is not None:
        events.append(
            event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": random.choice(_ODD)})
        )
    events.append(event("message_stop"))
    return events


_EVENTS = {"chat": _chat, "responses": _responses, "messages": _messages}
