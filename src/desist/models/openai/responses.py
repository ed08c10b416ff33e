"""`OpenAIResponses`: a model behind the Responses API of OpenAI or of a compatible server.

Used by agents through `desist.models.base`. `items` and `structured_output` write the request, `responses_response`
reads what comes back; everything else is in `desist.models.http`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass
from typing import Any

from desist.exceptions import ConfigurationError
from desist.models.base import ModelRequest
from desist.models.http.answer import Answer
from desist.models.http.response_reader import Response
from desist.models.openai.base import OpenAIModel
from desist.models.openai.responses_request import input_items, instructions
from desist.models.openai.responses_response import ResponsesParser
from desist.models.openai.structured_output import text_format

__all__ = ["OpenAIResponses"]


@dataclass
class OpenAIResponses(OpenAIModel):
    """A model behind the Responses API. Parameters without a description are those of the API.

    Each request holds the whole conversation, and by default (`store=False`) the provider keeps nothing of it. A
    cancelled answer would not be stored there in any case. Reasoning goes from one request to the next in encrypted
    form, inside the messages, where the provider sends it that way.

    Args:
        id: the provider's name of the model.
        base_url: default: OPENAI_BASE_URL, else OpenAI's.
        api_key: default: OPENAI_API_KEY.
        organization: default: OPENAI_ORG_ID.
        store: whether the provider keeps the answer for later retrieval; None leaves it to the API, which keeps it.
        reasoning: the API's object; `reasoning_effort` and `reasoning_summary` are its usual fields.
        verbosity: of the text: "low", "medium", "high".
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

    name: str | None = "OpenAIResponses"
    _: KW_ONLY
    include: list[str] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    reasoning_summary: str | None = None
    service_tier: str | None = None
    store: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    truncation: str | None = None
    user: str | None = None
    verbosity: str | None = None

    _sent = (
        "include",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "service_tier",
        "store",
        "temperature",
        "top_p",
        "truncation",
        "user",
    )

    def _build_request(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"input": input_items(request.messages)}
        text = instructions(request.messages)
        if text is not None:
            body["instructions"] = text
        if request.tools:
            body["tools"] = [_tool(definition) for definition in request.tools]
            if request.tool_choice is not None:
                body["tool_choice"] = _choice(request.tool_choice)
        for name, value in (("text", self._text(request)), ("reasoning", self._reasoning())):
            if value:
                body[name] = value
        return body

    def _text(self, request: ModelRequest) -> dict[str, Any]:
        text: dict[str, Any] = {} if self.verbosity is None else {"verbosity": self.verbosity}
        if request.response_format is not None:
            text["format"] = text_format(request.response_format)
        return text

    def _reasoning(self) -> dict[str, Any]:
        named = {"effort": self.reasoning_effort, "summary": self.reasoning_summary}
        return (self.reasoning or {}) | {name: value for name, value in named.items() if value is not None}

    def parser(self, answer: Answer) -> ResponsesParser:
        """Return a parser that reads one response into `answer`."""
        return ResponsesParser(answer)

    def _call(self, client: Any, **sent: Any) -> AbstractAsyncContextManager[Response]:
        create = client.responses.with_streaming_response.create
        call: AbstractAsyncContextManager[Response] = create(model=self.id, input="", stream=True, **sent)
        return call


def _tool(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a tool definition for this API: not nested, and strict only if the tool is."""
    function = definition.get("function")
    return {"type": "function", "strict": False, **function} if isinstance(function, dict) else definition


def _choice(choice: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(choice, str) or "function" not in choice:
        return choice
    name = choice["function"].get("name") if isinstance(choice["function"], dict) else None
    if not isinstance(name, str):
        raise ConfigurationError(f"tool_choice={choice!r} names no function: use the name of a tool")
    return {"type": "function", "name": name}
