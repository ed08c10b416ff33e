"""The script that runs in the child process: it loads the model and serves it until its parent goes away.

Started by `server_process` as a file, not as a module, so that nothing of desist is imported here. Its settings, the
API key among them, arrive as one line of JSON on stdin, because other users of the machine can read argv. It answers
with one
line of JSON on stdout: `{"address": ...}` or `{"error": ...}`.
"""

from __future__ import annotations

import json
import os
import select
import threading
from typing import Any


def main() -> None:
    """Serve until stdin ends or the parent dies."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the runtime prints must not be taken for an answer
    config = json.loads(os.read(0, 65536))
    threading.Thread(target=die_with_parent, args=(config["parent"],), daemon=True).start()
    try:
        server = serve(config)
    except BaseException as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        answers.flush()
        os._exit(1)
    answers.write(json.dumps({"address": server.listening_address}) + "\n")
    answers.flush()
    threading.Event().wait()


def die_with_parent(parent: int) -> None:
    """End this process at once when stdin ends or the process `parent` is gone.

    Two signs, because a program that the parent forked may hold the other end of our stdin. PR_SET_PDEATHSIG is no
    help: it fires when the *thread* that started us ends.
    """
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
    except (AttributeError, OSError):
        pass
    if os.getppid() == parent:
        poll.poll()
    os._exit(0)


def serve(config: dict[str, Any]) -> Any:
    """Load the model and open its port.

    One thread, because more collapse as soon as another program wants a core; small batches, because a request can
    be given up only between batches; a key and no web page, because any page in a browser may try this port.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["weights"]
    params.model_alias = {config["model"]}
    params.n_ctx = config["n_ctx"]
    params.n_parallel = config["slots"]
    params.n_batch = params.n_ubatch = config["batch"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.hostnames = [config["host"]]
    params.port = config["port"]
    params.api_keys = [config["api_key"]]
    params.cache_ram_mib = 0
    params.verbosity = 0
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = "http://127.0.0.1"
    params.cors_credentials = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
