"""`OpenAIChat`: a model behind the chat completions API, of OpenAI or of any server that speaks it.

Used by agents through `desist.models.base`. The rooms behind it: `body` and `schema` write the request, `client` and
`network` carry it, `answer`, `sse` and `wire` read what comes back, `errors` and `retry` deal with what goes wrong.
Importing this module imports neither the SDK nor an HTTP client.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import urllib.parse
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from desist.cancel.upstream import upstream
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.models.base import Model, ModelRequest
from desist.models.openai.answer import read_answer, refuse_if_shut
from desist.models.openai.body import wire_messages
from desist.models.openai.client import Settings, client_for
from desist.models.openai.errors import foreign_errors, translated
from desist.models.openai.schema import response_format
from desist.models.openai.text import clean
from desist.models.response import ModelResponse
from desist.models.retry import backoff, fixed_waits, retrying

__all__ = ["OpenAIChat"]

OPENAI_URL = "https://api.openai.com/v1"

#: Fields that are sent as they are, under their own names, where they aren't None.
_SENT = (
    "frequency_penalty",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "top_p",
    "user",
    "verbosity",
)


@functools.cache
def _parameters(cls: type[Any]) -> tuple[str, ...] | None:
    """Return the names that `cls` takes, or None if it takes any."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else tuple(parameter.name for parameter in parameters)


@dataclass
class OpenAIChat(Model):
    """A chat model. Parameters without a description are the API's own, sent as they are; None isn't sent.

    Args:
        id: the provider's name of the model.
        base_url: default: OPENAI_BASE_URL, else OpenAI's.
        api_key: default: OPENAI_API_KEY.
        organization: default: OPENAI_ORG_ID.
        timeout: seconds for each connect, read and write, or an `httpx2.Timeout`; default: the SDK's 600, 5 to connect.
        max_retries: tries after a failed one while no piece was shown; waits grow, or are those that the server asks.
        retries: further tries after those, each `delay_between_retries` seconds later.
        exponential_backoff: double that delay each time.
        default_headers, default_query: sent with each request. `extra_headers` and `extra_query` go over them.
        http_client: an `httpx2.AsyncClient` of yours, for one loop; best from
            `desist.models.openai.client.http_client`: with another, a cancel has to wait for the loop.
        extra_body: merged over the request's JSON. `request_params` is too, before it.
        role_map: other names for roles, for instance {"system": "developer"}.

    Raises:
        UnsupportedError: a parameter that desist doesn't have.
    """

    id: str = "gpt-5-mini"
    name: str | None = "OpenAIChat"
    provider: str | None = "OpenAI"
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    organization: str | None = None
    timeout: Any = None
    max_retries: int = 2
    default_headers: dict[str, str] | None = field(default=None, repr=False)
    default_query: dict[str, object] | None = field(default=None, repr=False)
    http_client: Any = field(default=None, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    logit_bias: dict[str, int] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    extra_headers: dict[str, str] | None = field(default=None, repr=False)
    extra_query: dict[str, object] | None = field(default=None, repr=False)
    extra_body: dict[str, Any] | None = None
    request_params: dict[str, Any] | None = None
    role_map: dict[str, str] | None = None
    retries: int = 0
    delay_between_retries: float = 1.0
    exponential_backoff: bool = False

    def __new__(cls, *_: object, **given: object) -> OpenAIChat:
        """Refuse parameters that this class doesn't have, before `__init__` does so in fewer words."""
        known = _parameters(cls)
        for name in given:
            if known is not None and name not in known:
                raise UnsupportedError(
                    f"{cls.__name__} has no parameter {name!r}; it has: {', '.join(known)}. "
                    "What the API has besides can be sent with extra_body={...}."
                )
        return super().__new__(cls)

    def check(self) -> None:
        """Raise `ConfigurationError` if there is no key, or key or address can't be used."""
        key, url = self._key(), urllib.parse.urlsplit(self._url())
        if not key:
            raise ConfigurationError(
                f"the model {self.id!r} needs a key: set OPENAI_API_KEY, or pass {type(self).__name__}(api_key=...)"
                " (a server that asks for none takes any text)"
            )
        if not (key.isascii() and key.isprintable()):
            at = next(i for i, c in enumerate(key) if not (c.isascii() and c.isprintable()))
            raise ConfigurationError(f"the key of {self.id!r} has a character at {at} that no HTTP header can hold")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigurationError(f"base_url must look like https://host/v1, not {self._url()!r}")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Yield the answer to `request` in pieces. Close it (`contextlib.aclosing`) when leaving early.

        Raises:
            ConfigurationError: as `check`.
            ModelError: the call failed, after all retries; `retryable` says whether another try may help.
            RunCancelled: the run was cancelled.
        """
        self.check()
        attempt = functools.partial(self._attempt, clean(self._body(request)))
        waits = [
            *backoff(self.max_retries),
            *fixed_waits(self.retries, self.delay_between_retries, exponential=self.exponential_backoff),
        ]
        async with contextlib.aclosing(retrying(attempt, waits)) as pieces:
            async for piece in pieces:
                yield piece

    async def _attempt(self, body: dict[str, Any]) -> AsyncGenerator[ModelResponse, None]:
        """Send one request and yield what it answers; its connection is closed or back in the pool afterwards."""
        client = await client_for(self._settings())
        with upstream() as connection:
            try:
                call = client.chat.completions.with_streaming_response.create(
                    model=self.id,
                    messages=[],
                    stream=True,
                    extra_body=body,  # all of it: the SDK's own path walks through every message, for nothing
                    extra_headers=self.extra_headers,
                    extra_query=self.extra_query,
                )
                async with call as response, contextlib.aclosing(read_answer(response, connection)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except foreign_errors() as error:
                failure = translated(error, server=self._server(), key=self._key())
        refuse_if_shut(connection)
        raise failure  # outside of the handler: it must not carry the request, and so the key, as its context

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """Return the request's JSON."""
        body: dict[str, Any] = {
            "model": self.id,
            "messages": wire_messages(request.messages, self.role_map),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {name: value for name in _SENT if (value := getattr(self, name)) is not None}
        if request.tools:
            body["tools"] = request.tools
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        if request.response_format is not None:
            body["response_format"] = response_format(request.response_format)
        return body | (self.request_params or {}) | (self.extra_body or {})

    def _settings(self) -> Settings:
        return Settings(
            base_url=self._url(),
            api_key=self._key(),
            organization=self.organization or os.environ.get("OPENAI_ORG_ID"),
            timeout=self.timeout,
            headers=dict(self.default_headers or {}),
            query=dict(self.default_query or {}),
            http_client=self.http_client,
        )

    def _key(self) -> str:
        return (self.api_key if self.api_key is not None else os.environ.get("OPENAI_API_KEY", "")).strip()

    def _url(self) -> str:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL

    def _server(self) -> str:
        """Return host and port, for messages; without the user and password that a URL may hold."""
        url = urllib.parse.urlsplit(self._url())
        return f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
