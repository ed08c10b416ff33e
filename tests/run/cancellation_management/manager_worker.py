"""A process whose runs are cancelled through Redis: `python manager_worker.py PORT`. Lines of JSON in and out."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

import redis

from desist import Workflow
from desist.run.cancellation_management import RedisRunCancellationManager, set_cancellation_manager
from desist.testing import Gate

gates: dict[str, Gate] = {}


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def run(run_id: str) -> None:
    async def wait(step_input: Any) -> str:
        say(at=run_id)
        await gates[run_id].wait()
        return "done"

    output = Workflow("W", steps=[wait]).run("x", run_id=run_id)
    cancel = output.cancel
    say(end=run_id, status=output.status.value, reason=cancel and cancel.reason, by=cancel and cancel.by)


def main() -> None:
    set_cancellation_manager(RedisRunCancellationManager(redis.Redis(port=int(sys.argv[1]))))
    say(ready=True)
    threads = []
    for line in sys.stdin:
        told = json.loads(line)
        run_id = told["id"]
        gate = gates.setdefault(run_id, Gate(run_id))
        if told["do"] == "run":
            threads.append(threading.Thread(target=run, args=(run_id,)))
            threads[-1].start()
        else:
            gate.open()
    for thread in threads:
        thread.join()
    set_cancellation_manager(None)


if __name__ == "__main__":
    main()
