"""Public import path of `RunContext`."""

from desist.run.options.context import RunContext, idempotency_key

__all__ = ["RunContext", "idempotency_key"]
