"""`Claude`: a model behind the Messages API of Anthropic or of a compatible server. Needs the extra `anthropic`.

Used by agents through `desist.models.base`. `request` and `schema` write the request, `response` reads what comes back;
everything else is in `desist.models.http`. The SDK sits on the same HTTP client as OpenAI's: so its requests, too, run
over connections that the canceller can shut down.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass
from typing import Any

from desist.exceptions import ConfigurationError, MissingExtraError
from desist.models.anthropic.request import called_names, system_text, thought_before_calls, wire_messages
from desist.models.anthropic.response import MessagesParser
from desist.models.anthropic.structured_output import format_instructions, output_format, strict_input_schema
from desist.models.base import ModelRequest
from desist.models.http.answer import Answer
from desist.models.http.base_url import BaseUrl
from desist.models.http.model import HttpModel
from desist.models.http.response_reader import Response
from desist.models.http.sdk import Sdk

__all__ = ["Claude"]

_CACHED = {"type": "ephemeral"}


@dataclass
class Claude(HttpModel):
    """A model of Anthropic. Parameters without a description are those of the API; None is not sent.

    Args:
        id: the provider's name of the model.
        base_url: with or without "/v1"; default: ANTHROPIC_BASE_URL, else Anthropic's.
        api_key: default: ANTHROPIC_API_KEY.
        max_tokens: maximum tokens of the response, including thinking. Required by the API.
        thinking: the API's object, for instance {"type": "adaptive"}. Of type "enabled" it isn't sent while the last
            answer is one with tool calls of another provider's: the API wants to see the thinking before them.
        effort: "low", "medium", "high" and so on.
        cache_system_prompt: let the provider cache the system message and the tools.
        timeout: seconds for each connect, read and write, or an `httpx2.Timeout`; default: the SDK's 600, 5 to connect.
        max_retries: tries after a failed one while no piece was shown; waits grow, or are those that the server asks.
        retries: further tries after those, each `delay_between_retries` seconds later.
        exponential_backoff: double that delay each time.
        default_headers, default_query: sent with each request. `extra_headers` and `extra_query` go over them.
        http_client: an `httpx2.AsyncClient` of yours, for one loop; best from `desist.models.http.http_client`: with
            another, a cancel has to wait for the loop.
        extra_body: merged over the request's JSON. `request_params` is too, before it.

    Raises:
        UnsupportedError: a parameter that desist doesn't have.
    """

    id: str = "claude-sonnet-4-5"
    name: str | None = "Claude"
    provider: str | None = "Anthropic"
    _: KW_ONLY
    max_tokens: int = 8192
    thinking: dict[str, Any] | None = None
    effort: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    cache_system_prompt: bool = False

    _sdk = Sdk.anthropic
    _own_url = "https://api.anthropic.com"
    _sent = (
        "max_tokens",
        "metadata",
        "service_tier",
        "stop_sequences",
        "temperature",
        "top_k",
        "top_p",
    )

    def check(self) -> None:
        """Raise `ConfigurationError` if the SDK or the key is missing, or key or base URL are invalid."""
        if importlib.util.find_spec("anthropic") is None:
            raise MissingExtraError("Claude", "anthropic")
        super().check()

    def _build_request(self, request: ModelRequest) -> dict[str, Any]:
        kind = (self.thinking or {}).get("type", "disabled")
        wire = wire_messages(request.messages, thinking=kind != "disabled")
        body: dict[str, Any] = {"messages": wire}
        if self.thinking is not None and (kind != "enabled" or thought_before_calls(wire)):
            body["thinking"] = self.thinking
        texts = [system_text(request.messages), format_instructions(request.response_format)]
        system = "\n\n".join(text for text in texts if text)
        if system:
            cached = [{"type": "text", "text": system, "cache_control": _CACHED}]
            body["system"] = cached if self.cache_system_prompt else system
        form, effort = output_format(request.response_format), self.effort
        if form or effort:
            body["output_config"] = ({"format": form} if form else {}) | ({"effort": effort} if effort else {})
        return body | _tools(request)

    def parser(self, answer: Answer) -> MessagesParser:
        """Return a parser that reads one response into `answer`."""
        return MessagesParser(answer)

    def _call(self, client: Any, **sent: Any) -> AbstractAsyncContextManager[Response]:
        create = client.messages.with_streaming_response.create
        call: AbstractAsyncContextManager[Response] = create(
            model=self.id, max_tokens=self.max_tokens, messages=[], stream=True, **sent
        )
        return call

    def _address(self) -> BaseUrl:
        address = super()._address()
        return dataclasses.replace(address, url=address.url.removesuffix("/v1"))


def _tools(request: ModelRequest) -> dict[str, Any]:
    """Return tools and tool_choice. Tools that the history calls must be defined, even if no call may follow."""
    if request.tools:
        tools = [_tool(definition) for definition in request.tools]
        choice = {} if request.tool_choice is None else {"tool_choice": _choice(request.tool_choice)}
        return {"tools": tools, **choice}
    names = called_names(request.messages)
    if not names:
        return {}
    known = [{"name": name, "input_schema": {"type": "object"}} for name in names]
    return {"tools": known, "tool_choice": {"type": "none"}}


def _tool(definition: dict[str, Any]) -> dict[str, Any]:
    function = definition.get("function")
    if not isinstance(function, dict):
        return definition
    described = {"description": function["description"]} if function.get("description") else {}
    strict = strict_input_schema(function) if function.get("strict") else None
    if strict is not None:
        return {"name": function["name"], **described, "input_schema": strict, "strict": True}
    return {"name": function["name"], **described, "input_schema": function.get("parameters") or {"type": "object"}}


def _choice(choice: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(choice, dict):
        function = choice.get("function")
        return {"type": "tool", "name": function["name"]} if isinstance(function, dict) else choice
    known = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    if choice not in known:
        raise ConfigurationError(f"tool_choice={choice!r} must be one of {', '.join(known)}, or name a function")
    return {"type": known[choice]}
