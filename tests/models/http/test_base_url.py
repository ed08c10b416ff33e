"""`base_url` as people have it: taken where it is clear what is meant, else refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from http_dialects import SPEECHES, Speech
from http_raw_server import Connection, serving
from http_requests import ask, said
from wire import KEY

from desist.exceptions import ConfigurationError

TAKEN = {
    "as it is": "{url}/v1",
    "a newline": "{url}/v1\n",
    "blanks": " \t{url}/v1  \r\n",
    "a slash": "{url}/v1/",
    "slashes": "{url}/v1///",
    "a user": "http://user:word@{host}/v1",
}


def lines_of(speech: Speech, url: str, **fields: Any) -> list[str]:
    """Return the request lines for a model at `url`, with the address of a server put in."""
    seen = []

    def script(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            seen.append(request["line"])
            connection.stream(speech.text("x"), speech.almost, speech.end)

    with serving(script) as server:
        base = server.url.removesuffix("/v1")
        model = speech.model("m", base_url=url.format(url=base, host=base[7:]), api_key=f" {KEY}\n", **fields)
        model.check()
        assert said(ask(model)) == "x"
    return seen


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_what_is_taken(speech: Speech, name: str) -> None:
    """Blanks and slashes around it are left out, as around the key."""
    assert lines_of(speech, TAKEN[name]) == [f"POST {speech.path} HTTP/1.1"]


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_a_query_is_sent_with_each_request(speech: Speech) -> None:
    """It comes after the path; `default_query` goes over it."""
    url = "{url}/v1?api-version=2024-06-01&a=&b=c"
    assert lines_of(speech, url) == [f"POST {speech.path}?api-version=2024-06-01&a=&b=c HTTP/1.1"]
    over = lines_of(speech, "{url}/v1/?api-version=1", default_query={"api-version": "2"})
    assert over == [f"POST {speech.path}?api-version=2 HTTP/1.1"]


def test_a_path_before_v1() -> None:
    """A deployment behind a gateway has a path of its own."""
    chat, _, messages = SPEECHES
    assert lines_of(chat, "{url}/openai/deployments/x?v=1") == [
        "POST /openai/deployments/x/chat/completions?v=1 HTTP/1.1"
    ]
    assert lines_of(messages, "{url}/anthropic/v1") == ["POST /anthropic/v1/messages HTTP/1.1"]


REFUSED = {
    "no scheme": ("localhost:8000/v1", "must look like"),
    "another scheme": ("ftp://host/v1", "must look like"),
    "no host": ("http:///v1", "must look like"),
    "only a scheme": ("https://", "must look like"),
    "a blank in it": ("http://host/v 1", "contains ' '"),
    "a newline in it": ("http://host/\nv1", "contains"),
    "a tab in it": ("http://ho\tst/v1", "contains"),
    "a zero width space": ("http://host/v1\u200b", "contains"),
    "a control character": ("http://host/v1\x00", "contains"),
    "in quotes": ('"http://host/v1"', "must look like"),
    "a fragment": ("http://host/v1#x", "contains '#'"),
    "a port that is none": ("http://host:port/v1", "must look like"),
    "a port too large": ("http://host:99999/v1", "must look like"),
    "half an IPv6 address": ("http://[::1/v1", "must look like"),
    "the path of chat completions": ("http://host/v1/chat/completions", "leave out '/chat/completions'"),
    "with a slash": ("http://host/v1/chat/completions/", "leave out '/chat/completions'"),
    "with a query": ("http://host/v1/chat/completions?v=1", "leave out '/chat/completions'"),
    "the path of completions": ("http://host/v1/completions", "leave out '/completions'"),
    "the path of responses": ("http://host/v1/responses\n", "leave out '/responses'"),
    "the path of messages": ("http://host/v1/messages", "leave out '/messages'"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("speech", SPEECHES, ids=str)
def test_what_is_refused(speech: Speech, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `check()`, before a request; the message shows the address and what is wrong, and no password."""
    url, words = REFUSED[name]
    model = speech.model("m", base_url=url, api_key="any")
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        model.check()
    if "\0" in url:
        return  # no variable can hold it
    monkeypatch.setenv("ANTHROPIC_BASE_URL" if speech.name == "messages" else "OPENAI_BASE_URL", url)
    with pytest.raises(ConfigurationError, match=words):
        speech.model("m", api_key="any").check()


def test_a_password_is_not_shown() -> None:
    """Also not in an error message."""
    with pytest.raises(ConfigurationError) as caught:
        SPEECHES[0].model("m", base_url="http://user:wordy@host/v1/chat/completions", api_key="any").check()
    assert "wordy" not in str(caught.value)


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_address_is_none(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it weren't given: the environment's counts, and a blank one there isn't given either."""
    chat = SPEECHES[0]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host/v2\n")
    assert chat.model("m", base_url=blank, api_key="any")._address().url == "http://host/v2"
    monkeypatch.setenv("OPENAI_BASE_URL", blank)
    assert chat.model("m", base_url=blank, api_key="any")._address().url == "https://api.openai.com/v1"
