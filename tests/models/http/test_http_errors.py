"""What goes wrong is said in our words, retried only where that helps, and never shows the key."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import aclosing

import pytest
from http_dialects import Speech
from http_raw_server import Connection, answering, serving, text
from http_requests import ask, asking, chat, said

from desist.exceptions import ModelError, ModelResponseError, UnsupportedError
from desist.models.http import clients

KEY = "sk-test-0123456789"


def failing(speech: Speech, status: int, message: str = "made to fail", times: int = 99, **headers: str):  # type: ignore[no-untyped-def]
    """Return a script that fails so many times, then answers."""
    left = [times]

    def script(connection: Connection) -> None:
        while connection.request():
            left[0] -= 1
            if left[0] < 0:
                connection.stream(speech.text("at last"), speech.almost, speech.end)
            else:
                connection.whole(
                    status, json.dumps({"type": "error", "error": {"message": message}}).encode(), **headers
                )

    script.left = left  # type: ignore[attr-defined]
    return script


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (401, False), (404, False), (408, True), (409, True), (429, True), (500, True), (503, True)],
)
def test_a_status_becomes_a_model_error(speech: Speech, status: int, retryable: bool) -> None:
    """Status, server, the provider's words and whether to try again; the key, if echoed, is cut out."""
    with serving(failing(speech, status, f"bad thing, key {KEY}")) as server, pytest.raises(ModelError) as caught:
        ask(speech.at(server.url))
    error = caught.value
    assert (error.status_code, error.retryable) == (status, retryable)
    assert f"127.0.0.1:{server.port} answered {status}" in str(error) and "bad thing" in str(error)
    assert KEY not in str(error)
    variable = "ANTHROPIC_API_KEY" if speech.name == "messages" else "OPENAI_API_KEY"
    assert (f"(is {variable}, or api_key=, the right key for this server?)" in str(error)) is (status == 401)
    assert error.__cause__ is None and error.__context__ is None


def test_nobody_there(speech: Speech) -> None:
    """An unreachable host is a retryable error that names host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ModelError, match=f"^can't connect to 127.0.0.1:{port}: Connection refused$") as caught:
        ask(speech.at(f"http://127.0.0.1:{port}/v1"))
    assert caught.value.retryable and caught.value.status_code is None


def test_an_unknown_host(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that doesn't resolve is a retryable error that names it."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match=r"no\.such\.host:80: Name or service not known") as caught:
        ask(speech.at("http://no.such.host/v1"))
    assert caught.value.retryable


def test_a_slow_server_is_a_timeout(speech: Speech) -> None:
    """`timeout` bounds the wait for an answer."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.gone()

    with serving(script) as server, pytest.raises(ModelError, match="did not respond in time") as caught:
        ask(speech.at(server.url, timeout=0.05))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("event", "status", "retryable"),
    [
        (b'{"error": {"message": "overloaded", "type": "overloaded_error"}}', None, True),
        (b'{"error": {"message": "too much", "code": 429}}', 429, True),
        (b'{"error": "no"}', None, False),
        (b'{"object": "error", "message": "bad", "code": 400}', 400, False),
        (b'{"choices": [{"index": 0, "error": {"message": "gone", "code": "502"}}]}', 502, True),
    ],
)
def test_an_error_in_mid_stream(event: bytes, status: int | None, retryable: bool) -> None:
    """An error object after some text ends the answer with a ModelError, whatever its shape."""
    with serving(answering(text("some"), b"data: " + event + b"\n\n")) as server, pytest.raises(ModelError) as caught:
        ask(chat(server.url, max_retries=2))
    assert (caught.value.status_code, caught.value.retryable) == (status, retryable)
    assert not isinstance(caught.value, ModelResponseError)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("kind", "retryable"), [("overloaded_error", True), ("server_error", True), ("invalid_request_error", False)]
)
def test_an_error_in_mid_stream_says_whether_to_try_again(speech: Speech, kind: str, retryable: bool) -> None:
    """Each API tells of errors after the headers in its own way. Before the first piece they are tried again."""
    with serving(answering(speech.text("some"), speech.error(kind, "too much"))) as server:
        with pytest.raises(ModelError, match="the provider reported an error: too much") as caught:
            ask(speech.at(server.url, max_retries=2))
        assert caught.value.retryable is retryable
        assert server.connections == 1
    events = [[speech.error(kind, "too much")], [speech.text("fine"), speech.almost, speech.end]]

    def script(connection: Connection) -> None:
        while connection.request() is not None:
            connection.stream(*events.pop(0))

    if retryable:
        with serving(script) as server:
            assert said(ask(speech.at(server.url, max_retries=1))) == "fine"


def test_a_retry_waits_as_long_as_the_server_asks(speech: Speech) -> None:
    """Two 429 with a wait in milliseconds, then the answer: three requests."""
    script = failing(speech, 429, times=2, retry_after_ms="1")
    with serving(script) as server:
        assert said(ask(speech.at(server.url, max_retries=2))) == "at last"
    assert script.left[0] == -1


def test_max_retries_is_a_limit(speech: Speech) -> None:
    """One retry: two requests, then the error."""
    script = failing(speech, 503, retry_after="0")
    with serving(script) as server, pytest.raises(ModelError):
        ask(speech.at(server.url, max_retries=1))
    assert script.left[0] == 97


def test_retries_come_after_max_retries(speech: Speech) -> None:
    """`retries` are further tries at a fixed distance."""
    script = failing(speech, 500, times=3)
    with serving(script) as server:
        model = speech.at(server.url, retries=3, delay_between_retries=0.001, exponential_backoff=True)
        assert said(ask(model)) == "at last"


def test_what_cant_be_retried_is_not(speech: Speech) -> None:
    """A 400 is asked once."""
    script = failing(speech, 400)
    with serving(script) as server, pytest.raises(ModelError):
        ask(speech.at(server.url, max_retries=5))
    assert script.left[0] == 98


def test_who_asks_for_a_long_wait_is_not_waited_for(speech: Speech) -> None:
    """More than a minute is an error at once that says so."""
    with serving(failing(speech, 429, retry_after="3600")) as server, pytest.raises(ModelError, match="wait 3600 s"):
        ask(speech.at(server.url, max_retries=2))


def test_nothing_is_retried_after_the_first_piece(speech: Speech) -> None:
    """A stream that breaks after text isn't asked for again: the text would come twice."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(speech.text("once"))

    async def main(url: str) -> list[str | None]:
        seen: list[str | None] = []
        with pytest.raises(ModelResponseError):
            async with aclosing(speech.at(url, max_retries=3).stream(asking())) as pieces:
                async for piece in pieces:
                    seen.append(piece.content)
        return seen

    with serving(script) as server:
        assert asyncio.run(main(server.url)) == ["once"]
        assert server.connections == 1


def test_a_foreign_http_client_is_refused(speech: Speech) -> None:
    """http_client of another library: an error that says what is wanted."""
    with pytest.raises(UnsupportedError, match=r"must be an httpx2\.AsyncClient, not a builtins\.int"):
        ask(speech.at("http://127.0.0.1:1/v1", http_client=3))


def test_a_proxy_of_the_environment_is_used(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY gets the request, unless NO_PROXY names the host."""
    lines = []

    def proxy(connection: Connection) -> None:
        while request := connection.request():
            lines.append(request["line"])
            connection.stream(speech.text("by proxy"), speech.almost, speech.end)

    for name in clients._REACH:
        monkeypatch.delenv(name, raising=False)
    with serving(proxy) as server, serving(answering(speech.text("direct"), speech.almost, speech.end)) as other:
        monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{server.port}")
        assert said(ask(speech.at("http://example.test/v1"))) == "by proxy"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert said(ask(speech.at(other.url))) == "direct"
    assert lines == [f"POST http://example.test{speech.path} HTTP/1.1"]
