"""The options of the loopback provider, over real sockets, in a thread and in a process."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import trustme

from desist.exceptions import ConfigurationError
from desist.testing import HANG, Call, LoopbackProvider, Reply, assert_no_leaks

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "two words"}]}


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def provider(request: pytest.FixtureRequest) -> Iterator[LoopbackProvider]:
    with LoopbackProvider(Reply(tokens=["a ", "b"]), process=request.param) as made:
        yield made


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as made:
        yield made


def post(client: httpx2.Client, provider: LoopbackProvider, **change: Any) -> httpx2.Response:
    return client.post(provider.base_url + "/chat/completions", json=ASK | change)


def streaming(client: httpx2.Client, provider: LoopbackProvider) -> Any:
    return client.stream("POST", provider.base_url + "/chat/completions", json=ASK)


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def text_of(response: httpx2.Response) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events(response) if e["choices"])


def raw(provider: LoopbackProvider) -> socket.socket:
    """Send one request over a bare socket."""
    sock = socket.create_connection(("127.0.0.1", provider.port), timeout=10)
    body = json.dumps(ASK).encode()
    sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return sock


def test_streams_tokens_as_server_sent_events(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """The tokens are sent as deltas, then the finish reason and the end marker; the request is recorded."""
    response = post(client, provider)
    assert text_of(response) == "a b"
    assert events(response)[-1]["choices"][0]["finish_reason"] == "stop"
    exchange = provider.wait_request()
    exchange.wait_over()
    assert exchange.request == ASK
    assert exchange.headers["content-type"] == "application/json"
    assert (exchange.tokens_sent, exchange.finished, exchange.closed_at) == (2, True, None)


def test_a_connection_is_used_again(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Keep-alive works: three requests, one connection, and its end is recorded in all three exchanges."""
    for _ in range(3):
        post(client, provider)
    exchanges = [provider.wait_request(n) for n in (1, 2, 3)]  # a provider in a process reports after it has answered
    provider.wait_open_connections(1)
    client.close()
    for exchange in exchanges:
        exchange.wait_closed()
        assert exchange.closed_by == "client"
        assert exchange.finished
    provider.wait_open_connections(0)
    assert provider.connections == 1


def test_replies_are_chosen_by_queue_and_model(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """The order: the model's queue, the model's default, the common queue, the common default."""
    provider.enqueue(Reply(text="first"), Reply(text="second"))
    provider.set_default(Reply(text="of x"), model="x")
    provider.enqueue(Reply(text="next x"), model="x")
    said = [text_of(post(client, provider, model=model)) for model in ("m", "x", "x", "m", "m")]
    assert said == ["first", "next x", "of x", "second", "a b"]


def test_a_callable_chooses(client: httpx2.Client) -> None:
    """`choose` gets the exchange; None falls back; its exception becomes a 500 with the message."""

    def choose(exchange: Any) -> Reply | None:
        return {"x": Reply(text="chosen"), "m": None}[exchange.request["model"]]

    with LoopbackProvider(Reply(text="default"), choose=choose) as provider:
        assert text_of(post(client, provider, model="x")) == "chosen"
        assert text_of(post(client, provider)) == "default"
        assert "KeyError" in post(client, provider, model="y").json()["error"]["message"]


def test_plain_json_on_either_side_s_wish(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """stream=false in the request, or `stream=False` in the reply, gives one JSON body."""
    assert post(client, provider, stream=False).json()["choices"][0]["message"]["content"] == "a b"
    provider.enqueue(Reply(text="plain", stream=False))
    assert post(client, provider).json()["choices"][0]["message"]["content"] == "plain"


def test_tool_calls_are_streamed_in_pieces(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Arguments of several calls are streamed in pieces by index, and are complete in plain JSON."""
    calls = (Call("find", {"query": "something long"}), Call("clock", "{broken", id="id-2"))
    provider.enqueue(Reply(tool_calls=calls), Reply(tool_calls=calls))
    deltas = [d for e in events(post(client, provider)) for d in e["choices"][0]["delta"].get("tool_calls", ())]
    arguments = ["".join(d["function"]["arguments"] for d in deltas if d["index"] == i) for i in (0, 1)]
    assert arguments == ['{"query": "something long"}', "{broken"]
    assert [d["id"] for d in deltas if "id" in d] == ["call_0_find", "id-2"]
    assert len(deltas) > 4
    choice = post(client, provider, stream=False).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert [c["function"]["name"] for c in choice["message"]["tool_calls"]] == ["find", "clock"]


def test_usage_is_sent_when_asked_for_or_given(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Counted usage needs include_usage; usage of the reply is always sent; the finish reason can be set."""
    assert all("usage" not in e for e in events(post(client, provider)))
    counted = events(post(client, provider, stream_options={"include_usage": True}))[-1]
    assert counted["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    provider.enqueue(Reply(usage={"total_tokens": 99}, finish_reason="length"))
    *_, reason, usage = events(post(client, provider))
    assert usage["usage"] == {"total_tokens": 99}
    assert reason["choices"][0]["finish_reason"] == "length"


def test_errors_carry_status_message_and_retry_after(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """`status`, `error` and `retry_after` reach the client."""
    provider.enqueue(Reply(status=429, error="slow down", retry_after=2.5))
    response = post(client, provider)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2.5")
    assert response.json()["error"]["message"] == "slow down"


@pytest.mark.parametrize("where", ["before_headers", "before_first_token"])
def test_a_hang_ends_with_the_client(provider: LoopbackProvider, where: str) -> None:
    """During a hang before the headers or the first token, the client's FIN is detected at once.

    No token is generated.
    """
    provider.enqueue(Reply(tokens=7, **{where: HANG}))  # type: ignore[arg-type]
    sock = raw(provider)
    exchange = provider.wait_request()
    if where == "before_first_token":
        exchange.wait_headers()
    before = time.monotonic()
    sock.close()
    assert before <= exchange.wait_closed() < before + 5
    exchange.wait_over()
    assert (exchange.headers_at is None) == (where == "before_headers")
    assert (exchange.tokens_sent, exchange.tokens_unsent_saved, exchange.finished) == (0, 7, False)


def test_release_ends_one_hang_each(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Each release ends one hang, also one that hasn't begun."""
    provider.enqueue(Reply(tokens=4, before_headers=HANG, before_first_token=HANG, stall_after=2))
    with raw(provider) as sock:
        exchange = provider.wait_request()
        exchange.release()
        exchange.wait_headers()
        exchange.release()
        exchange.wait_sent(2)
        assert not exchange.finished
        exchange.release()
        exchange.wait_over()
        assert exchange.finished
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_hold_stops_before_the_next_token(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """A held answer continues when it is released, not before."""
    provider.enqueue(Reply(tokens=3, stall_after=1))
    with raw(provider):
        exchange = provider.wait_request()
        exchange.wait_sent(1)
        exchange.hold()
        exchange.release()  # the stall; now the hold
        with pytest.raises(TimeoutError, match="3 tokens"):
            exchange.wait_sent(3, timeout=0.05)
        exchange.release()
        exchange.wait_over()
        assert exchange.finished


def test_delays_and_interval_take_their_time(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Each finite wait delays the answer by at least its length, in plain JSON too."""
    reply = Reply(tokens=3, before_headers=0.02, before_first_token=0.02, token_interval=0.02)
    for stream in (True, False):
        provider.enqueue(reply)
        before = time.monotonic()
        post(client, provider, stream=stream)
        assert time.monotonic() - before >= 0.08
    exchange = provider.wait_request()
    exchange.wait_over()
    times = [moment for moment, _ in exchange.writes]
    assert exchange.tokens_after(times[0]) == 2
    assert exchange.tokens_after(times[-1]) == 0
    assert exchange.tokens_after(0) == 3


def test_stall_keeps_the_rest_for_ever(provider: LoopbackProvider) -> None:
    """After `stall_after` tokens nothing is sent; a reset of the connection is detected."""
    provider.enqueue(Reply(tokens=10, stall_after=3))
    sock = raw(provider)
    exchange = provider.wait_request()
    exchange.wait_sent(3)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    exchange.wait_closed()
    exchange.wait_over()
    assert (exchange.tokens_sent, exchange.tokens_unsent_saved, exchange.closed_by) == (3, 7, "client")


def test_flood_stops_with_the_client(provider: LoopbackProvider) -> None:
    """A flood waits for a slow reader, detects its disconnect, and generates no more tokens."""
    provider.enqueue(Reply(tokens=1_000_000, flood=True))
    sock = raw(provider)
    exchange = provider.wait_request()
    exchange.wait_sent(100)
    sock.close()
    exchange.wait_over()
    assert exchange.tokens_sent_after_close == 0
    assert exchange.tokens_sent + exchange.tokens_unsent_saved == 1_000_000


def test_flood_arrives_whole(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """A flood that is read to its end contains every token."""
    provider.enqueue(Reply(tokens=5000, flood=True))
    assert text_of(post(client, provider)) == "".join(f"t{i} " for i in range(5000))


def test_a_bad_provider_goes_on_and_is_billed(provider: LoopbackProvider) -> None:
    """With ignore_disconnect, tokens after the client's disconnect are generated and counted."""
    provider.enqueue(Reply(tokens=10, stall_after=3, ignore_disconnect=True))
    sock = raw(provider)
    exchange = provider.wait_request()
    exchange.wait_sent(3)
    sock.close()
    exchange.wait_closed()
    assert not exchange.over
    exchange.release()
    exchange.wait_over()
    assert (exchange.tokens_sent, exchange.tokens_sent_after_close, exchange.finished) == (10, 7, False)


def test_drops_end_the_connection_without_an_end(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """`drop_after` ends the stream early, `drop_before_headers` the request; both are recorded as the provider's."""
    provider.enqueue(Reply(tokens=5, drop_after=2), Reply(drop_before_headers=True))
    with pytest.raises(httpx2.RemoteProtocolError):
        post(client, provider)
    with pytest.raises(httpx2.RemoteProtocolError):
        post(client, provider)
    first, second = provider.wait_request(1), provider.wait_request(2)
    first.wait_closed()
    second.wait_closed()
    assert (first.tokens_sent, first.closed_by, second.closed_by) == (2, "provider", "provider")
    assert not first.finished


def test_malformed_bytes_come_instead_of_the_rest(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """`malformed` is sent unchanged, alone or after tokens, streamed or plain."""
    provider.enqueue(*[Reply(malformed=b"data: {\xff\n\n")] * 2, Reply(text="x", malformed=b"!"))
    assert post(client, provider).content == b"data: {\xff\n\n"
    assert post(client, provider, stream=False).content == b"data: {\xff\n\n"
    content = post(client, provider).content
    assert b'"x"' in content
    assert content.endswith(b"\n\n!")


def test_other_requests_are_refused_and_not_recorded(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """A wrong path, method or body gets an error response, and no exchange."""
    url = provider.base_url + "/chat/completions"
    assert client.get(provider.base_url + "/models").status_code == 404
    assert client.get(url).status_code == 405
    assert client.post(url, content=b"{").status_code == 400
    assert client.post(url, content=iter([b"{", b"}"])).status_code == 411
    assert provider.exchanges == []


def test_waits_that_can_t_end_say_what_is_missing(provider: LoopbackProvider, client: httpx2.Client) -> None:
    """Timeouts name the condition; waiting for tokens that can't be sent any more ends at once."""
    with pytest.raises(TimeoutError, match="0 requests, not 1"):
        provider.wait_request(timeout=0.01)
    post(client, provider)
    exchange = provider.wait_request()
    with pytest.raises(TimeoutError, match="the generation has ended before 3 tokens"):
        exchange.wait_sent(3)
    with pytest.raises(TimeoutError, match="still open"):
        exchange.wait_closed(timeout=0.01)


@pytest.mark.parametrize("process", [False, True])
def test_tls(process: bool, tmp_path: Path) -> None:
    """With `tls` the provider serves https, and detects a disconnect."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    context = httpx2.create_ssl_context()
    authority.configure_trust(context)
    with LoopbackProvider(tls=(cert, key), process=process) as provider, httpx2.Client(verify=context) as client:
        assert provider.base_url.startswith("https:")
        assert "loopback" in text_of(post(client, provider))
        provider.enqueue(Reply(tokens=5, stall_after=1))
        with streaming(client, provider):
            exchange = provider.wait_request(2)
            exchange.wait_sent(1)
        exchange.wait_closed()
        exchange.wait_over()
        assert exchange.tokens_unsent_saved == 4


@pytest.mark.parametrize("process", [False, True])
def test_stopping_leaves_nothing_behind(process: bool) -> None:
    """Stopping ends hanging, ignoring and idle answers: no thread, file, task or child is left."""
    with assert_no_leaks():
        with LoopbackProvider(process=process) as provider:
            provider.enqueue(Reply(before_headers=HANG), Reply(tokens=9, stall_after=2, ignore_disconnect=True))
            socks = [raw(provider) for _ in range(2)]
            provider.wait_request(2)
            socks.append(socket.create_connection(("127.0.0.1", provider.port)))
        for sock in socks:
            sock.close()
        provider.stop()
        assert provider.open_connections == 0


def test_the_process_ends_with_its_stdin() -> None:
    """The child ends when its parent has ended; a port in use is an OSError."""
    with LoopbackProvider(process=True) as provider:
        with pytest.raises(OSError, match="could not start"):
            LoopbackProvider(process=True, port=provider.port).start()
        with pytest.raises(OSError):
            LoopbackProvider(port=provider.port).start()
    parent = (
        "import sys, time; from desist.testing import LoopbackProvider; import psutil\n"
        "p = LoopbackProvider(process=True); p.start(); print(psutil.Process().children()[0].pid, flush=True)\n"
        "sys.stdin.read()"
    )
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        process.wait()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_contradictions_are_refused() -> None:
    """Contradicting options are refused by name, and so is use before the start."""
    with pytest.raises(ConfigurationError, match="text= and tokens="):
        Reply(text="a", tokens=1)
    with pytest.raises(ConfigurationError, match="token_interval"):
        Reply(flood=True, token_interval=1)
    with pytest.raises(ConfigurationError, match="status=500"):
        Reply(status=500, text="a")
    with pytest.raises(ConfigurationError, match="before_headers=-1"):
        Reply(before_headers=-1)
    with pytest.raises(ConfigurationError, match="choose="):
        LoopbackProvider(choose=lambda _: None, process=True)
    with pytest.raises(ConfigurationError, match="not started"):
        _ = LoopbackProvider().base_url
