"""Strict checks of requests to a provider: whether each of the three APIs would accept a conversation.

The loopback provider of the tests applies `check_request` to every request. The checks are at least as strict as the
providers: no provider refuses a request that passes them as malformed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider_requests.chat import check_chat_request
from provider_requests.messages import check_messages_request
from provider_requests.responses import check_responses_request

__all__ = ["check_chat_request", "check_messages_request", "check_request", "check_responses_request"]

_CHECKS = {
    "/chat/completions": check_chat_request,
    "/responses": check_responses_request,
    "/messages": check_messages_request,
}


def check_request(path: str, body: Mapping[str, Any]) -> None:
    """Check a request to the API at a path such as "/v1/messages".

    Raises:
        AssertionError: names the invalid field and the reason.
    """
    bare = path.partition("?")[0]
    next(check for end, check in _CHECKS.items() if bare.endswith(end))(body)
