"""Tokens, scopes, owners, origins, sizes, and control characters in headers and logs."""

from __future__ import annotations

import itertools
import logging
import socket
from typing import Any

import pytest
from server_harness import cancel, served, start, story, until

from desist.exceptions import ConfigurationError
from desist.server import Limits, Token, create_app, serve
from desist.testing import Gate

ANN, BOB, READER, BOSS = (f"{name}-secret-0123456789" for name in ("ann", "bob", "reader", "boss"))
TOKENS = [
    Token(secret=ANN, name="ann's laptop", owner="ann"),
    Token(secret=BOB, name="bob", owner="bob"),
    Token(secret=READER, name="reader", owner="ann", scopes=frozenset({"read"})),
    Token(secret=BOSS, name="boss"),
]


def shown(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_no_token_and_a_wrong_one() -> None:
    """Without a known token only the public paths are served; the OpenAPI schema says that tokens are needed."""
    with served(story(Gate()), tokens=TOKENS) as client:
        for headers in ({}, shown("wrong"), {"Authorization": f"Basic {ANN}"}, {"Authorization": "Bearer"}):
            for path in ("/v1/runs", "/workflows", "/v1/runs/x", "/nowhere"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert client.post("/v1/runs", json={"workflow": "story"}, headers=headers).status_code == 401
        assert client.get("/health").status_code == 200
        assert client.get("/openapi.json").json()["paths"]["/v1/runs"]["get"]["security"] == [{"token": []}]


def test_scopes() -> None:
    """A token with only the scope read can't start or cancel: 403, and the run continues."""
    gate = Gate()
    with served(story(gate), tokens=TOKENS) as client:
        ann: dict[str, Any] = {"headers": shown(ANN)}
        run_id = client.post("/v1/runs", json={"workflow": "story", "input": "go"}, **ann).json()["run_id"]
        reader = shown(READER)
        assert client.get(f"/v1/runs/{run_id}", headers=reader).status_code == 200
        for path in ("/v1/runs", f"/v1/runs/{run_id}/continue", f"/v1/runs/{run_id}/cancel", "/v1/runs/cancel"):
            answer = client.post(path, json={"workflow": "story"} if path == "/v1/runs" else {}, headers=reader)
            assert answer.status_code == 403, path
        assert client.post(f"/workflows/story/runs/{run_id}/cancel", headers=reader).status_code == 403
        assert client.get(f"/v1/runs/{run_id}", **ann).json()["status"] in ("RUNNING", "PENDING")
        receipt = client.post(f"/v1/runs/{run_id}/cancel", json={"by": "the boss"}, params={"wait": 5}, **ann).json()
        assert receipt["by"] == "the boss (token ann's laptop)"


def test_another_owners_run_is_missing() -> None:
    """Read, follow, cancel, continue, list, in bulk, by session: as if the run didn't exist."""
    gate = Gate()
    with served(story(gate), tokens=TOKENS) as client:
        ask = {"workflow": "story", "input": "go", "session_id": "ann-session"}
        run = client.post("/v1/runs", json=ask, headers=shown(ANN)).json()
        run_id, bob = run["run_id"], shown(BOB)
        assert run["user_id"] == "ann"
        gate.wait_reached()
        unknown = client.get("/v1/runs/unknown", headers=bob).content
        assert client.get(f"/v1/runs/{run_id}", headers=bob).content == unknown
        assert client.get(f"/v1/runs/{run_id}/events", headers=bob).content == unknown
        for what in ("cancel", "continue"):
            assert client.post(f"/v1/runs/{run_id}/{what}", json={}, headers=bob).content == unknown
        assert client.get("/v1/runs", headers=bob).json()["runs"] == []
        assert client.get("/v1/runs", params={"user_id": "ann"}, headers=bob).json()["runs"] == []
        assert client.get("/workflows/story/runs", headers=bob).json() == []
        assert client.get(f"/workflows/story/runs/{run_id}", headers=bob).status_code == 404
        assert client.post(f"/workflows/story/runs/{run_id}/cancel", headers=bob).json() == {}
        assert client.post("/v1/runs/cancel", json={}, headers=bob).json()["count"] == 0
        assert client.post("/v1/runs", json=ask, headers=bob).status_code == 404
        assert client.post("/v1/runs", json={**ask, "user_id": "ann"}, headers=bob).status_code == 403
        assert client.get(f"/v1/runs/{run_id}", headers=shown(ANN)).json()["status"] == "RUNNING"
        assert [r["run_id"] for r in client.get("/v1/runs", headers=shown(BOSS)).json()["runs"]] == [run_id]
        client.post(f"/v1/runs/{run_id}/cancel", params={"wait": 5}, headers=shown(BOSS))


def test_without_tokens_only_this_machine() -> None:
    """A page of another site, a foreign name of this machine, a proxy: refused, and no run is started."""
    with served(story(Gate())) as client:
        ask = {"message": "go", "background": "true", "stream": "false"}
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example"},
            {"X-Forwarded-For": "203.0.113.7"},
        ):
            answer = client.post("/workflows/story/runs", data=ask, headers=headers)
            assert answer.status_code == 403, headers
        assert client.get("/v1/runs", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/v1/runs").json()["runs"] == []
        own = {"Origin": f"http://127.0.0.1:{client.base_url.port}"}
        run_id = client.post("/workflows/story/runs", data=ask, headers=own).json()["run_id"]
        cancel(client, run_id, 5.0)


def test_open_to_others_needs_tokens() -> None:
    """Listening on other addresses than loopback without tokens is an error, before a socket is opened."""
    with pytest.raises(ConfigurationError, match="set tokens"):
        serve(create_app(workflows=[story(Gate())]), host="0.0.0.0")


def test_cors_only_for_those_named() -> None:
    """Only pages of the named origins may send requests."""
    named = "https://app.example"
    preflight = {"Origin": named, "Access-Control-Request-Method": "POST"}
    with served(story(Gate())) as client:
        assert "access-control-allow-origin" not in client.options("/v1/runs", headers=preflight).headers
    with served(story(Gate()), cors_origins=[named]) as client:
        assert client.options("/v1/runs", headers=preflight).headers["access-control-allow-origin"] == named
        other = client.options("/v1/runs", headers=preflight | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_big_bodies() -> None:
    """A body above the limit is 413, with or without a Content-Length; a smaller one is accepted."""
    with served(story(Gate()), limits=Limits(body=1000)) as client:
        big = b'{"workflow": "story", "input": "' + b"x" * 2000 + b'"}'
        json = {"Content-Type": "application/json"}
        assert client.post("/v1/runs", content=big, headers=json).status_code == 413
        assert client.post("/v1/runs", content=iter([big[:900], big[900:]]), headers=json).status_code == 413
        run_id = start(client)
        cancel(client, run_id, 5.0)


def test_headers_of_every_response() -> None:
    """A strict policy, no sniffing, no frames, no caching, on errors too. The page is revalidated."""
    with served(story(Gate())) as client:
        for path in ("/", "/health", "/v1/runs", "/v1/runs/none", "/nowhere"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == ("no-cache" if path == "/" else "no-store")


@pytest.mark.parametrize("evil", ["a\r\nSet-Cookie: x=1", "a\nERROR forged line", "a\x1b[31m", "../../etc/passwd"])
def test_nothing_is_smuggled(evil: str, caplog: pytest.LogCaptureFixture) -> None:
    """Ids with control characters are refused; texts are kept; neither gets into headers or logs unescaped."""
    gate = Gate()
    caplog.set_level(logging.DEBUG, "desist")
    with served(story(gate)) as client:
        control = evil != "../../etc/passwd"
        answer = client.post("/v1/runs", json={"workflow": "story", "input": evil, "session_id": evil})
        assert answer.status_code == (422 if control else 202)
        if not control:
            cancel(client, answer.json()["run_id"], 5.0)
        run_id = start(client)
        receipt = cancel(client, run_id, 5.0, reason=evil, by=evil)
        assert receipt.json()["reason"] == evil and "set-cookie" not in receipt.headers
        assert client.get("/v1/runs/" + _quoted(evil)).status_code in (404, 422)
        assert client.post(f"/workflows/{_quoted(evil)}/runs", data={"message": "x"}).status_code == 404
        until(client, run_id, lambda run: run["status"] == "CANCELLED")
    raw = [record.getMessage() for record in caplog.records if record.name.startswith("desist")]
    assert not control or not [line for line in raw if evil in line]


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


@pytest.mark.parametrize(
    "wrong", [{"secret": "short"}, {"secret": "x" * 20, "scopes": {"fly"}}, {"secret": "x" * 20, "scopes": set()}]
)
def test_invalid_tokens(wrong: dict[str, Any]) -> None:
    """A short secret, or an unknown scope: an error that doesn't show the secret."""
    with pytest.raises(ConfigurationError) as caught:
        Token(**wrong)
    assert wrong["secret"] not in str(caught.value)
    assert ANN not in repr(TOKENS[0])
    with pytest.raises(ConfigurationError, match="two tokens"):
        create_app(workflows=[story(Gate())], tokens=[TOKENS[0], TOKENS[0]])


#: Headers that a client may get wrong, each with what can't be understood.
MALFORMED = [
    ("Host", "[::1"),
    ("Host", "[::1]x"),
    ("Host", "127.0.0.1:port"),
    ("Host", "127.0.0.1:99999999"),
    ("Host", "user@127.0.0.1"),
    ("Host", "127.0.0.1/path"),
    ("Host", "127.0.0.1\t"),
    ("Host", "\u2100\u00ff"),
    ("Origin", "[::1"),
    ("Origin", "http://[::1"),
    ("Forwarded", "[::1"),
    ("Authorization", "Bearer \u00ff\u00fe"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary="),
    ("Content-Type", "application/json; charset=nonsense"),
    ("Content-Type", "application/x-www-form-urlencoded; charset=nonsense"),
    ("Content-Type", "\u00ff/;;=;"),
    ("Last-Event-ID", "\u00b2"),
    ("Accept", "[::1;q=x"),
    ("Mcp-Session-Id", "\u00ff"),
    ("Mcp-Protocol-Version", "\u00ff"),
    ("A2A-Version", "\u00ff"),
    ("Sec-Fetch-Site", "\u00ff"),
    ("Transfer-Encoding", "nonsense"),
]


def _status(client: Any, request: bytes) -> int:
    """Send bytes, and return the status of the response."""
    with socket.create_connection(("127.0.0.1", client.base_url.port), 30) as connection:
        connection.sendall(request)
        first = connection.makefile("rb").readline()
    return int(first.split()[1])


@pytest.mark.parametrize("secured", [False, True], ids=["open", "tokens"])
def test_malformed_headers(secured: bool) -> None:
    """On every route: never a server error, nor a traceback in the log; an invalid Host is 400."""
    asks = {
        "GET /health": b"",
        "GET /v1/runs": b"",
        "GET /v1/runs/x/events": b"",
        "POST /v1/runs": b'{"workflow": "none"}',
        "POST /v1/agui/workflows/none": b"{}",
        "POST /workflows/none/runs": b"message=x",
        "POST /mcp": b"{}",
        "POST /a2a/workflows/story": b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "none"}}',
        "GET /a2a/workflows/story/.well-known/agent-card.json": b"",
    }
    with served(story(Gate()), tokens=TOKENS if secured else (), a2a=True, mcp=True) as client:
        for (name, value), (ask, body) in itertools.product(MALFORMED, asks.items()):
            said = {"Host": "127.0.0.1", "Authorization": f"Bearer {BOSS}", "Content-Length": str(len(body))}
            said |= {"Connection": "close", name: value}
            lines = "".join(f"{key}: {text}\r\n" for key, text in said.items())
            code = _status(client, f"{ask} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            assert 200 <= code < 500 or code == 501, (ask, name, value, code)
            if name == "Host" and value != "127.0.0.1\t":  # HTTP takes the space away
                assert code == 400, (ask, value, code)
