"""`HttpModel`: the common part of models behind an HTTP API: key, base URL, retries, one request at a time.

The models of `desist.models.openai` and `desist.models.anthropic` are its subclasses; they write the request and name
the reader of what comes back. The rooms behind it: `clients`, `sdk` and `network_backend` carry the request,
`response_reader`, `stream_reader` and `answer` read the response, `errors` and `retry` deal with what goes wrong.
Importing it imports neither an SDK nor an HTTP client.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

from desist.cancel.upstream import upstream
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.models.base import Model, ModelRequest
from desist.models.http.answer import Answer
from desist.models.http.base_url import BaseUrl
from desist.models.http.clients import Settings, client_for
from desist.models.http.errors import RequestTarget, foreign_errors, model_error
from desist.models.http.response_reader import Response, read_answer, refuse_if_shut
from desist.models.http.sdk import Sdk
from desist.models.http.stream_reader import ResponseParser
from desist.models.http.text import clean
from desist.models.response import ModelResponse
from desist.models.retry import backoff, fixed_waits, retrying

__all__ = ["HttpModel"]


@functools.cache
def _parameters(cls: type[Any]) -> tuple[str, ...] | None:
    """Return the parameter names of `cls`, or None if any name is accepted."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else tuple(parameter.name for parameter in parameters)


def _tool_names(request: ModelRequest) -> frozenset[str]:
    functions = (tool.get("function", tool) for tool in request.tools)
    return frozenset(function["name"] for function in functions if isinstance(function.get("name"), str))


@dataclass
class HttpModel(Model):
    """A model behind an HTTP API. Subclasses define which; these parameters are common to all.

    Args:
        id: the provider's name of the model.
        base_url, api_key: default: the environment's, else the provider's address.
        timeout: seconds for each connect, read and write, or an `httpx2.Timeout`; default: the SDK's 600, 5 to connect.
        max_retries: tries after a failed one while no piece was shown; waits grow, or are those that the server asks.
        retries: further tries after those, each `delay_between_retries` seconds later.
        exponential_backoff: double that delay each time.
        default_headers, default_query: sent with each request. `extra_headers` and `extra_query` go over them.
        http_client: an `httpx2.AsyncClient` of yours, for one loop; best from `desist.models.http.http_client`: with
            another, a cancel has to wait for the loop.
        extra_body: merged over the request's JSON. `request_params` is too, before it.
    """

    id: str
    name: str | None = None
    provider: str | None = None
    _: KW_ONLY
    base_url: str | None = field(default=None, repr=False)  # may contain a password
    api_key: str | None = field(default=None, repr=False)
    timeout: Any = None
    max_retries: int = 2
    default_headers: dict[str, str] | None = field(default=None, repr=False)
    default_query: dict[str, object] | None = field(default=None, repr=False)
    http_client: Any = field(default=None, repr=False)
    extra_headers: dict[str, str] | None = field(default=None, repr=False)
    extra_query: dict[str, object] | None = field(default=None, repr=False)
    extra_body: dict[str, Any] | None = field(default=None, repr=False)
    request_params: dict[str, Any] | None = field(default=None, repr=False)
    retries: int = 0
    delay_between_retries: float = 1.0
    exponential_backoff: bool = False

    #: Set by subclasses.
    _sdk: ClassVar[Sdk]
    _own_url: ClassVar[str]  #: the provider's base URL
    _sent: ClassVar[tuple[str, ...]] = ()  #: fields that are sent under their own names, unless None

    def __new__(cls, *_: object, **kwargs: object) -> Self:
        """Refuse unknown parameters with a better message than that of `__init__`."""
        known = _parameters(cls)
        for name in kwargs:
            if known is not None and name not in known:
                raise UnsupportedError(
                    f"{cls.__name__} has no parameter {name!r}; it has: {', '.join(known)}. "
                    "Pass other parameters of the API in extra_body={...}."
                )
        return super().__new__(cls)

    @abstractmethod
    def _build_request(self, request: ModelRequest) -> dict[str, Any]:
        """Return the request's JSON, as far as the model knows it; its plain fields are added."""

    @abstractmethod
    def parser(self, answer: Answer) -> ResponseParser:
        """Return a parser that reads one response into `answer`."""

    @abstractmethod
    def _call(self, client: Any, **sent: Any) -> AbstractAsyncContextManager[Response]:
        """Return the coroutine of the SDK's call."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares `http_client`, which can't be copied."""
        made = copy.copy(self)
        for name, value in vars(self).items():
            setattr(made, name, value if name == "http_client" else copy.deepcopy(value, memo))
        return made

    def check(self) -> None:
        """Raise `ConfigurationError` if the key is missing, or key or base URL are invalid."""
        key = self._key()
        if not key:
            raise ConfigurationError(
                f"the model {self.id!r} needs a key: set {self._variable('API_KEY')}, or pass"
                f" {type(self).__name__}(api_key=...) (any text if the server needs no key)"
            )
        if not (key.isascii() and key.isprintable()):
            at = next(i for i, c in enumerate(key) if not (c.isascii() and c.isprintable()))
            raise ConfigurationError(
                f"the API key of {self.id!r} has an invalid character at index {at}: use printable ASCII only"
            )
        self._address()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Yield the response to `request` in pieces. Close the generator (`contextlib.aclosing`) when leaving early.

        Raises:
            ConfigurationError: as `check`.
            ModelError: the call failed, after all retries; `retryable` says whether another try may help.
            RunCancelled: the run was cancelled.
        """
        self.check()
        attempt = functools.partial(self._attempt, clean(self._body(request)), request)
        async with contextlib.aclosing(retrying(attempt, self._waits())) as pieces:
            async for piece in pieces:
                yield piece

    async def _attempt(self, body: dict[str, Any], request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Send one request and yield the response. Afterwards the connection is closed, or back in the pool."""
        client = await client_for(self._settings())
        with upstream() as connection:
            try:
                # All of it as `extra_body`: the SDK's own path copies every message.
                sent = {"extra_body": body, "extra_headers": self.extra_headers, "extra_query": self.extra_query}
                async with self._call(client, **sent) as response:
                    pieces = read_answer(response, connection, self.parser(Answer(_tool_names(request))))
                    async with contextlib.aclosing(pieces):
                        async for piece in pieces:
                            yield piece
                return
            except foreign_errors(self._sdk) as error:
                failure = model_error(error, self._request_target())
        refuse_if_shut(connection)
        raise failure  # outside of the handler: its context must not refer to the request, which has the key

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """Return the request's JSON."""
        body = {"model": self.id, "stream": True} | self._build_request(request)
        body |= {name: value for name in self._sent if (value := getattr(self, name)) is not None}
        return body | (self.request_params or {}) | (self.extra_body or {})

    def _waits(self) -> Iterator[float]:
        yield from backoff(self.max_retries)
        yield from fixed_waits(self.retries, self.delay_between_retries, exponential=self.exponential_backoff)

    def _settings(self) -> Settings:
        address = self._address()
        return Settings(
            sdk=self._sdk,
            base_url=address.url,
            api_key=self._key(),
            timeout=self.timeout,
            headers=dict(self.default_headers or {}),
            query=address.query | (self.default_query or {}),
            http_client=self.http_client,
        )

    def _request_target(self) -> RequestTarget:
        """Return host and port of the base URL, without user and password."""
        server = self._address().server
        return RequestTarget(sdk=self._sdk, server=server, key=self._key(), key_variable=self._variable("API_KEY"))

    def _key(self) -> str:
        return (self.api_key if self.api_key is not None else os.environ.get(self._variable("API_KEY"), "")).strip()

    def _address(self) -> BaseUrl:
        """Return the base URL: the parameter, else the environment's, else the provider's."""
        given = str(self.base_url or "").strip() or os.environ.get(self._variable("BASE_URL"), "").strip()
        return BaseUrl.read(given or self._own_url, like=self._own_url)

    def _variable(self, what: str) -> str:
        """Return the name of the environment variable of the key."""
        return f"{self._sdk.value.upper()}_{what}"
