"""Strict checks of what is sent to a provider: whether each of the three APIs would take a conversation.

Called by the loopback provider for every request, and by tests. They are at least as strict as the providers: what
passes here is refused by none of them for its form. Standard library only; they know nothing of desist's messages.
"""

from desist.testing.provider.request_checks.chat import check_chat_request
from desist.testing.provider.request_checks.messages import check_messages_request
from desist.testing.provider.request_checks.responses import check_responses_request

__all__ = ["check_chat_request", "check_messages_request", "check_responses_request"]
