"""One situation in which a run is cancelled: the workflow, how to know that it is there, what is seen of its end.

A `Scene` is entered once and played many times. Here are the scenes of a model call; `tools` has those of user code.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from bench.unresponsive_server import MuteServer
from desist.agent import Agent
from desist.models.anthropic import Claude
from desist.models.http.model import HttpModel
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.testing import HANG, Exchange, LoopbackProvider, Reply
from desist.workflow import Step, Workflow

__all__ = ["Scene", "model_scenes"]


class Scene:
    """A situation. Subclasses fill in what differs."""

    name = ""
    stream = True
    repeats = 150  #: of a full measurement
    terminal_ms = 5.0  #: the target, p99, from cancel() to the terminal event in the reader's hand
    gone_ms: float | None = None  #: the same for the connection's end, or the work's
    tokens_after: int | None = None  #: how many tokens the provider may make after the cancel

    def __init__(self) -> None:
        self.workflow: Workflow
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Scene:
        self.workflow = Workflow("bench", steps=[self.step()])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stack.close()

    def step(self) -> Step:
        """Return the one step of the workflow."""
        raise NotImplementedError

    def before(self) -> None:
        """Get ready for the next run."""

    def arrive(self) -> None:
        """Wait until the run is where it is to be cancelled."""

    def gone(self) -> float | None:
        """Wait until the work was seen to be gone; return when, None where nobody can see that."""
        return None

    def wasted(self, moment: float) -> int | None:
        """Return how many tokens were made after `moment`."""
        return None


def _agent(url: str, **options: Any) -> Agent:
    return Agent(OpenAIChat(id="bench", base_url=url, api_key="bench", **options), name="bench")


class ModelCall(Scene):
    """The run waits for, or reads, an answer of the loopback provider."""

    def __init__(
        self,
        name: str,
        reply: Reply,
        *,
        tokens: int = 0,
        stream: bool = True,
        allowed: int | None = 0,
        closes: bool = True,
        kind: type[HttpModel] = OpenAIChat,
    ) -> None:
        super().__init__()
        self.name, self.reply, self.tokens, self.stream = name, reply, tokens, stream
        self.tokens_after, self.closes, self.kind = allowed, closes, kind
        self.gone_ms = 5.0 if closes else None
        self.exchange: Exchange

    def step(self) -> Step:
        """One agent."""
        self.provider = self.stack.enter_context(LoopbackProvider(self.reply, process=True))
        return Step("one", agent=self.agent(self.provider.base_url))

    def agent(self, url: str) -> Agent:
        """Return the agent that asks."""
        return Agent(self.kind(id="bench", base_url=url, api_key="bench"), name="bench")

    def before(self) -> None:
        """Count what was."""
        self._count = len(self.provider.exchanges)

    def arrive(self) -> None:
        """Wait for the request, and the headers and tokens before the moment."""
        self.exchange = self.provider.wait_request(self._count + 1)
        if self.reply.before_headers != HANG:
            self.exchange.wait_headers()
        if self.tokens:
            self.exchange.wait_sent(self.tokens)
        time.sleep(0.003)  # the client has read by then what has been sent

    def gone(self) -> float | None:
        """Wait for the end of the connection."""
        if not self.closes:
            return None
        self.exchange.wait_over()
        return self.exchange.wait_closed()

    def wasted(self, moment: float) -> int | None:
        """Count what was generated."""
        return self.exchange.tokens_after(moment)


class BackOff(ModelCall):
    """The provider is busy; the model waits before it asks again."""

    def __init__(self) -> None:
        busy = Reply(status=503, retry_after=30)
        super().__init__("model's retry back-off (503, Retry-After)", busy, allowed=None, closes=False)

    def gone(self) -> float | None:
        """Make sure that nothing more was asked."""
        if len(self.provider.exchanges) != self._count + 1:
            raise RuntimeError("a request was sent after the cancel")
        return None

    def wasted(self, moment: float) -> int | None:
        """Nothing is generated."""
        return None


class AgentBackOff(BackOff):
    """The agent waits before it starts again."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "agent's retry back-off"

    def agent(self, url: str) -> Agent:
        """The model doesn't retry, the agent does."""
        model = OpenAIChat(id="bench", base_url=url, api_key="bench", max_retries=0)
        return Agent(model, name="bench", retries=3, delay_between_retries=30)


class Blackhole(Scene):
    """The model connects to an address that takes no more connections."""

    name = "connect (nobody answers)"

    def step(self) -> Step:
        """Fill the queue of a listening socket: further connects wait."""
        server = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self._port = server.getsockname()[1]
        for _ in range(3):
            filler = self.stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self._port))
        time.sleep(0.05)
        self._fillers = self._connecting()
        return Step("one", agent=_agent(f"http://127.0.0.1:{self._port}/v1"))

    def _connecting(self) -> int:
        remote = f":{self._port:04X} 02 "
        with open("/proc/net/tcp") as table:
            return table.read().count(remote)

    def arrive(self) -> None:
        """Wait until the kernel tries."""
        while self._connecting() == self._fillers:
            time.sleep(0.001)

    def gone(self) -> float | None:
        """Make sure that it tries no more. When it gave up can't be seen without disturbing."""
        if self._connecting() != self._fillers:
            raise RuntimeError("a connect goes on after the terminal event")
        return None


class Handshake(Scene):
    """The server takes the connection and says nothing to the TLS handshake."""

    name = "TLS handshake"
    gone_ms = 5.0

    def step(self) -> Step:
        """https at a server that is mute."""
        self._server = self.stack.enter_context(MuteServer())
        return Step("one", agent=_agent(f"https://127.0.0.1:{self._server.port}/v1"))

    def arrive(self) -> None:
        """Wait until it has the client's hello."""
        self._server.wait("heard")

    def gone(self) -> float | None:
        """Wait until it sees the end."""
        return self._server.wait("closed")


class LookUp(Scene):
    """The name server doesn't answer."""

    name = "DNS look-up"
    repeats = 50  #: each leaves a thread behind until the look-up ends

    def step(self) -> Step:
        """Look-ups of one name block until they are let go."""
        self._asked, self._answer = threading.Semaphore(0), threading.Event()
        real = socket.getaddrinfo

        def slow(host: Any, *args: Any, **options: Any) -> Any:
            if host != "nowhere.invalid":
                return real(host, *args, **options)
            self._asked.release()
            self._answer.wait()
            raise socket.gaierror("no such name")

        socket.getaddrinfo = slow
        self.stack.callback(self._restore, real)
        return Step("one", agent=_agent("http://nowhere.invalid/v1"))

    def _restore(self, real: Any) -> None:
        socket.getaddrinfo = real
        self._answer.set()

    def arrive(self) -> None:
        """Wait until the name is asked for."""
        self._asked.acquire()


def model_scenes() -> Iterator[Scene]:
    """Yield the scenes of a model call."""
    yield ModelCall("response headers", Reply(tokens=500, before_headers=HANG))
    yield ModelCall("first token", Reply(tokens=500, before_first_token=HANG))
    yield ModelCall("next token (stalled)", Reply(tokens=500, stall_after=5), tokens=5)
    yield ModelCall("mid-stream, a token each 5 ms", Reply(tokens=5000, token_interval=0.005), tokens=5, allowed=2)
    yield ModelCall("mid-stream, flood", Reply(tokens=5_000_000, flood=True), tokens=5000, allowed=None)
    yield ModelCall("stream=False, waiting", Reply(tokens=500, before_headers=HANG), stream=False)
    yield ModelCall(
        "stream=False, a token each 5 ms", Reply(tokens=5000, token_interval=0.005), tokens=5, stream=False, allowed=2
    )
    for kind in (OpenAIResponses, Claude):
        name = kind.__name__
        yield ModelCall(f"first token, {name}", Reply(tokens=500, before_first_token=HANG), kind=kind)
        often = Reply(tokens=5000, token_interval=0.005)
        yield ModelCall(f"mid-stream, a token each 5 ms, {name}", often, tokens=5, allowed=2, kind=kind)
    yield Blackhole()
    yield Handshake()
    yield LookUp()
    yield BackOff()
    yield AgentBackOff()
