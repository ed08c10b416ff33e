"""`LocalChat`: the local model as a `Model`, so that an agent can run without a provider, a key or a network.

`LocalChat` starts the server if necessary and sends requests with `OpenAIChat`, because the server implements that
protocol. A cancel closes the connection, and then the server stops computing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING

from desist.exceptions import ModelError, UnsupportedError
from desist.models.base import Model, ModelRequest
from desist.models.local.server import LocalServer, ServerAddress, ServerSettings
from desist.models.local.weights import MODEL_ID, find_weights, refuse_missing_runtime
from desist.models.response import ModelResponse

if TYPE_CHECKING:
    from desist.models.openai import OpenAIChat

__all__ = ["LocalChat"]

log = logging.getLogger("desist.models.local")

#: One connection per request. The server may close an idle connection at any time, even while the next request is being
#: sent, and a new connection takes only 0.1 ms on loopback.
_ONE_EACH = {"Connection": "close"}


class LocalChat(Model):
    """SmolLM2-135M-Instruct on this machine's CPU, about 80 tokens per second on one core.

    The model writes readable English but knows little: it is useful to watch a real model being cancelled, not to
    answer questions. It can't call tools: tools are not sent, and a warning is logged once. The server enforces
    `response_format`.

    Args:
        id: the name to report. It does not select the model; `weights` does.
        weights: path of another GGUF file. None: the file named by DESIST_LOCAL_WEIGHTS, else the packaged file.
        n_ctx: tokens of context, split evenly between the two requests that the server handles at a time.
        threads: number of threads of the child. More than one is slow when other programs use the cores.
        temperature, top_p, max_tokens, seed, stop: parameters of the protocol; None for the server's default.
        name: display name of the model.
    """

    provider = "local"

    def __init__(
        self,
        id: str = MODEL_ID,
        *,
        weights: str | PathLike[str] | None = None,
        n_ctx: int = 8192,
        threads: int = 1,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.id = id
        self.name = name or "LocalChat"
        self.settings = ServerSettings(None if weights is None else fspath(weights), n_ctx, threads)
        self.temperature = temperature
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self.stop = stop
        self._inner: tuple[ServerAddress, OpenAIChat] | None = None
        self._warned = False

    @property
    def server(self) -> LocalServer:
        """The server, shared by all models with the same settings in this program."""
        return LocalServer.shared(self.settings)

    def check(self) -> None:
        """Raise `ConfigurationError` if runtime or weights are missing. The hash is checked when the server starts."""
        refuse_missing_runtime()
        find_weights(self.settings.weights)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Yield the response to `request` in pieces. Start the server if necessary.

        Raises:
            ConfigurationError: the model isn't installed, or its file has the wrong hash.
            ModelError: the prompt is too long, or the server failed. Retryable if the child died.
        """
        request = self._without_tools(request)
        server = self.server
        inner = self._chat(await server.ensure())
        try:
            async with contextlib.aclosing(inner.stream(request)) as pieces:
                async for piece in pieces:
                    yield piece
        except ModelError as error:
            explained = await self._explain(error, server)
            if explained is None:
                raise
            raise explained from error

    def _chat(self, address: ServerAddress) -> OpenAIChat:
        from desist.models.openai import OpenAIChat

        if self._inner is None or self._inner[0] != address:
            chat = OpenAIChat(
                id=self.id,
                base_url=address.base_url,
                api_key=address.api_key,
                max_retries=0,
                default_headers=_ONE_EACH,
            )
            self._inner = (address, chat)
        chat = self._inner[1]
        chat.temperature, chat.top_p, chat.max_tokens = self.temperature, self.top_p, self.max_tokens
        chat.seed, chat.stop = self.seed, self.stop
        return chat

    def _without_tools(self, request: ModelRequest) -> ModelRequest:
        if isinstance(request.tool_choice, dict) or request.tool_choice == "required":
            raise UnsupportedError(f"LocalChat can't call tools: remove tool_choice={request.tool_choice!r}")
        if not request.tools:
            return request
        if not self._warned:
            self._warned = True
            log.warning("LocalChat can't call tools: %d offered tools are not sent to the model", len(request.tools))
        return replace(request, tools=[], tool_choice=None)

    async def _explain(self, error: ModelError, server: LocalServer) -> ModelError | None:
        if error.status_code is None:
            death = await server.death()
            if death is not None:
                return ModelError(f"the local model stopped: {death}. The next call restarts it.", retryable=True)
        if error.status_code == 400 and "context size" in str(error):
            limit = self.settings.slot_context
            return ModelError(
                f"the prompt is too long for the local model: prompt and answer share {limit} tokens "
                f"(half of n_ctx={self.settings.n_ctx}). Shorten the prompt or raise n_ctx. Server message: {error}",
                status_code=400,
            )
        return None
