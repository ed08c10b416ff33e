"""The framing of a stream: events come out whole, wherever the bytes were cut."""

from __future__ import annotations

import itertools
import json

from http_raw_server import DONE, STOP, Connection, event, serving, text
from http_requests import ask, chat, said
from hypothesis import given
from hypothesis import strategies as st

from desist.models.http.sse import SseParser
from desist.models.openai.chat_response import decode

STREAM = (
    b"\xef\xbb\xbf: a comment\nevent: message\nid: 7\ndata: one\n\n"
    b"data:two\r\ndata:  lines\r\n\r\nretry: 5\rdata: three\r\r"
    b"data\n\n\n\ndata: \xe2\x82\xac\n\ndata: last"
)
EVENTS = [b"one", b"two\n lines", b"three", "€".encode(), b"last"]


def parse(pieces: list[bytes]) -> list[bytes]:
    parser = SseParser()
    return [found for piece in pieces for found in parser.feed(piece)] + parser.finish()


def test_every_cut_gives_the_same_events() -> None:
    """Cut at each byte, in two pieces and byte by byte: comments, CR, CRLF, several data lines, a byte order mark."""
    for at in range(len(STREAM) + 1):
        assert parse([STREAM[:at], STREAM[at:]]) == EVENTS, at
    assert parse([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    """Any number of cuts, also with empty pieces between."""
    at = [0, *sorted(cuts), len(STREAM)]
    assert parse([STREAM[a:b] for a, b in itertools.pairwise(at)]) == EVENTS


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n"), min_size=1), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.data(),
)
def test_events_in_are_events_out(texts: list[str], end: str, data: st.DataObject) -> None:
    """What is framed with any line end and cut anywhere is what was said."""
    raw = b"".join(f"data: {json.dumps(t)}{end}{end}".encode("utf-8", "replace") for t in texts)
    cut = data.draw(st.integers(0, len(raw)))
    assert [json.loads(e) for e in parse([raw[:cut], raw[cut:]])] == [json.loads(json.dumps(t)) for t in texts]


def test_half_a_surrogate_pair_is_replaced() -> None:
    """A server that cuts an emoji's escape in two doesn't end the answer."""
    chunk = decode(b'{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}],"usage":{"prompt_tokens":3.0}}')
    assert chunk.choices is not None and chunk.choices[0].delta is not None and chunk.usage is not None
    assert chunk.choices[0].delta.content == "a\ufffd"
    assert chunk.usage == {"prompt_tokens": 3.0}


def test_bytes_cut_anywhere_on_a_real_connection() -> None:
    """An answer sent byte by byte in HTTP chunks arrives as it is."""
    answer = b": hello\r\n\r\n" + text("grüß ").replace(b"\n", b"\r\n") + text("dich") + STOP + event() + DONE

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(*(answer[i : i + 1] for i in range(len(answer))))

    with serving(script) as server:
        assert said(ask(chat(server.url))) == "grüß dich"
