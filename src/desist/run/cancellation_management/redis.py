"""`RedisRunCancellationManager`: a hash in Redis for each run, and a channel that notifies processes.

Each change is one script, so that a cancel and an end compete in Redis. A notification is only a hint to read the hash.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.cancellation_management.base import BaseRunCancellationManager, CancelRequestResult, ManagedRunState

__all__ = ["RedisRunCancellationManager"]

log = logging.getLogger("desist.run")

#: Seconds for which the cancel of an unknown run is stored, and for which the end of a run is.
INTENT_TTL, ENDED_TTL = 60, 3600
#: Seconds between two attempts to listen.
RETRY_PAUSE = 1.0

_READ = "local known = redis.call('HMGET', KEYS[1], 'state', 'request', 'status', 'record', 'last') "
_REQUEST = """
if not known[1] then
  redis.call('HSET', KEYS[1], 'state', 'asked', 'request', ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[3])
elseif known[1] == 'running' or known[1] == 'cancelling' then
  redis.call('HSET', KEYS[1], 'state', 'cancelling') redis.call('HSETNX', KEYS[1], 'request', ARGV[1])
  redis.call('HSET', KEYS[1], 'last', ARGV[1]) redis.call('PUBLISH', ARGV[2], ARGV[4])
end
return known
"""
_REGISTER = """
local state = 'running'
if known[1] == 'asked' or known[1] == 'cancelling' then state = 'cancelling' else redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'state', state) redis.call('EXPIRE', KEYS[1], ARGV[1])
return known
"""
_ACKNOWLEDGE = """
if known[1] == 'running' or known[1] == 'ending' then
  redis.call('HSET', KEYS[1], 'state', 'cancelling', 'request', ARGV[1])
end
return known
"""
_BEGIN_FINISH = "if known[1] == 'running' then redis.call('HSET', KEYS[1], 'state', 'ending') end return known"
_ABORT_FINISH = "if known[1] == 'ending' then redis.call('HSET', KEYS[1], 'state', 'running') end return known"
_FINISH = """
redis.call('HSET', KEYS[1], 'state', 'ended', 'status', ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[3])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'record', ARGV[2]) end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return known
"""


class RedisRunCancellationManager(BaseRunCancellationManager):
    """Cancels through Redis. `pip install redis`; desist doesn't need it otherwise.

    Parameters:
        redis_client: a `redis.Redis` of the program's. A sync client serves async code too, in a thread.
        key_prefix: the prefix of the keys.
        ttl_seconds: seconds after which a run is deleted if nothing has changed.
    """

    look_every = 1.0

    def __init__(
        self, redis_client: Any, *, key_prefix: str = "desist:run:cancellation:", ttl_seconds: int = 86_400
    ) -> None:
        if not callable(getattr(redis_client, "eval", None)) or not callable(getattr(redis_client, "pubsub", None)):
            raise ConfigurationError(f"redis_client= must be a redis.Redis, not {redis_client!r:.80}")
        if ttl_seconds <= 0:
            raise ConfigurationError(f"ttl_seconds={ttl_seconds} must be more than 0")
        self._client, self._prefix, self._ttl = redis_client, key_prefix, int(ttl_seconds)
        self._channel = f"{key_prefix}calls"
        self._stop = threading.Event()

    def _do(self, script: str, run_id: str, *values: object) -> ManagedRunState | None:
        found = self._client.eval(_READ + script, 1, f"{self._prefix}run:{run_id}", *values)
        state, *rest = (_text(value) for value in found)
        return None if state is None else ManagedRunState(state, *rest)

    def register_run(self, run_id: str) -> None:
        """Register a run that starts here. An earlier cancel of its id is kept."""
        self._do(_REGISTER, run_id, self._ttl)

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run; return whether it ends, or has ended, `CANCELLED`. False for an unknown run."""
        before = self.request_cancel(run_id, "").before
        return before is not None and (before.state in ("running", "cancelling") or before.status == "CANCELLED")

    def is_cancelled(self, run_id: str) -> bool:
        """Return whether there is a cancel of a run."""
        known = self.get_state(run_id)
        return known is not None and known.state in ("asked", "cancelling")

    def cleanup_run(self, run_id: str) -> None:
        """Delete a run."""
        self._client.delete(f"{self._prefix}run:{run_id}")

    def get_active_runs(self) -> dict[str, bool]:
        """Return the runs of all processes that have not ended, each with whether there is a cancel of it."""
        start = f"{self._prefix}run:"
        states = {
            name[len(start) :]: _text(self._client.hget(name, "state"))
            for name in map(_text, self._client.scan_iter(f"{start}*"))
            if name is not None
        }
        return {
            run_id: state in ("asked", "cancelling") for run_id, state in states.items() if state not in (None, "ended")
        }

    def request_cancel(self, run_id: str, request: str) -> CancelRequestResult:
        """Store a cancel, unless the run has ended or has begun to finish, and notify its process."""
        return CancelRequestResult(self._do(_REQUEST, run_id, request, self._channel, INTENT_TTL, run_id))

    def get_state(self, run_id: str) -> ManagedRunState | None:
        """Return the state of a run, or None."""
        return self._do("return known", run_id)

    def acknowledge(self, run_id: str, request: str) -> None:
        """Store that the process of a run is cancelling it."""
        self._do(_ACKNOWLEDGE, run_id, request)

    def begin_finish(self, run_id: str) -> ManagedRunState:
        """Refuse cancels of a run from now on, because it is about to end. Return the state just before."""
        return self._do(_BEGIN_FINISH, run_id) or ManagedRunState("running")

    def abort_finish(self, run_id: str) -> None:
        """Accept cancels again, because the run did not end."""
        self._do(_ABORT_FINISH, run_id)

    def finish(self, run_id: str, status: str, record: str | None) -> None:
        """Store the end of a run, for an hour."""
        self._do(_FINISH, run_id, status, record or "", ENDED_TTL, self._channel, run_id)

    # -- notifications

    def listen(self, called: Callable[[], None]) -> None:
        """Call `called()` after each change, from a thread of the manager's."""
        self._stop = stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    self._receive(called, stop)
                except Exception as error:
                    log.debug("Redis can't be listened to: %s", error)
                    stop.wait(RETRY_PAUSE)

        threading.Thread(target=work, name="desist-redis", daemon=True).start()

    def _receive(self, called: Callable[[], None], stop: threading.Event) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as calls:
            calls.subscribe(self._channel)
            called()  # for notifications that were missed
            while not stop.is_set():
                if calls.get_message(timeout=0.5) is not None:
                    called()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
