"""Tools for tests of programs that use desist: a loopback provider and Postgres, a scripted model, gates, leak checks.

The package imports no test framework, and the rest of the library doesn't use it, except `desist demo`.
"""

from desist.testing.gates import Gate
from desist.testing.leaks import Census, assert_no_leaks, census
from desist.testing.postgres import LocalPostgres
from desist.testing.provider.exchange import Exchange
from desist.testing.provider.provider import LoopbackProvider
from desist.testing.provider.replies import HANG, Call, Reply
from desist.testing.recorded import RecordedAnswer, read_recorded_stream
from desist.testing.scripted import ScriptedModel, ToolCalls

__all__ = [
    "HANG",
    "Call",
    "Census",
    "Exchange",
    "Gate",
    "LocalPostgres",
    "LoopbackProvider",
    "RecordedAnswer",
    "Reply",
    "ScriptedModel",
    "ToolCalls",
    "assert_no_leaks",
    "census",
    "read_recorded_stream",
]
