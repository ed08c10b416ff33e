"""`OpenAIChat`: a model behind the chat completions API of OpenAI or of a compatible server.

Used by agents through `desist.models.base`. `body` and `structured_output` write the request, `chat_response` reads
what comes back; everything else is in `desist.models.http`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass
from typing import Any

from desist.models.base import ModelRequest
from desist.models.http.answer import Answer
from desist.models.http.response_reader import Response
from desist.models.openai.base import OpenAIModel
from desist.models.openai.chat_request import wire_messages
from desist.models.openai.chat_response import ChatResponseParser
from desist.models.openai.structured_output import response_format

__all__ = ["OpenAIChat"]


@dataclass
class OpenAIChat(OpenAIModel):
    """A chat model. Parameters without a description are those of the API; None is not sent.

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
        http_client: an `httpx2.AsyncClient` of yours, for one loop; best from `desist.models.http.http_client`: with
            another, a cancel has to wait for the loop.
        extra_body: merged over the request's JSON. `request_params` is too, before it.
        role_map: other names for roles, for instance {"system": "developer"}.

    Raises:
        UnsupportedError: a parameter that desist doesn't have.
    """

    name: str | None = "OpenAIChat"
    _: KW_ONLY
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
    role_map: dict[str, str] | None = None

    _sent = (
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

    def _build_request(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": wire_messages(request.messages, self.role_map),
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = request.tools
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        if request.response_format is not None:
            body["response_format"] = response_format(request.response_format)
        return body

    def parser(self, answer: Answer) -> ChatResponseParser:
        """Return a parser that reads one response into `answer`."""
        return ChatResponseParser(answer)

    def _call(self, client: Any, **sent: Any) -> AbstractAsyncContextManager[Response]:
        create = client.chat.completions.with_streaming_response.create
        call: AbstractAsyncContextManager[Response] = create(model=self.id, messages=[], stream=True, **sent)
        return call
