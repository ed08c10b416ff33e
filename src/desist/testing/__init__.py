"""Parts for tests of programs that use desist: a provider and a Postgres on loopback, a scripted model, gates, counts.

No test framework is imported, and nothing here is used by the library itself.
"""

from desist.testing.gates import Gate
from desist.testing.leaks import Census, assert_no_leaks, census
from desist.testing.postgres import LocalPostgres
from desist.testing.provider.exchange import Exchange
from desist.testing.provider.provider import LoopbackProvider
from desist.testing.provider.replies import HANG, Call, Reply
from desist.testing.provider.request_checks import check_chat_request, check_messages_request, check_responses_request
from desist.testing.scripted import ScriptedModel, ToolCalls

__all__ = [
    "HANG",
    "Call",
    "Census",
    "Exchange",
    "Gate",
    "LocalPostgres",
    "LoopbackProvider",
    "Reply",
    "ScriptedModel",
    "ToolCalls",
    "assert_no_leaks",
    "census",
    "check_chat_request",
    "check_messages_request",
    "check_responses_request",
]
