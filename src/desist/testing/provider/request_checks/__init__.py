"""Strict checks of requests to a provider: whether each of the three APIs would accept a conversation.

Called by the loopback provider for every request, and by tests. The checks are at least as strict as the providers: no
provider refuses a request that passes them as malformed. Standard library only, without desist's messages.
"""

from desist.testing.provider.request_checks.chat import check_chat_request
from desist.testing.provider.request_checks.messages import check_messages_request
from desist.testing.provider.request_checks.responses import check_responses_request

__all__ = ["check_chat_request", "check_messages_request", "check_responses_request"]
