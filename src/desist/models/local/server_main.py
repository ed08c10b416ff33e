"""The script of the child process. It loads the model and serves it until the parent process ends.

Started by `server_process` as a file, not as a module, so that nothing of desist is imported here. The settings,
including the API key, are read from stdin as one line of JSON, because other users of the machine can read argv. The
script writes one line of JSON to stdout: `{"address": ...}` or `{"error": ...}`.
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
    os.dup2(2, 1)  # stdout is for the one line of JSON: redirect other output of the runtime to stderr
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
    """End this process at once when stdin is closed or the process `parent` has ended.

    stdin alone is not enough, because a program forked by the parent may hold the other end. PR_SET_PDEATHSIG can't be
    used, because it fires when the *thread* that started this process ends.
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

    One thread by default, because several become slow as soon as another program uses a core. Small batches, because a
    request can be cancelled only between batches. A key and no web page, because any page in a browser can send
    requests to this port.
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
