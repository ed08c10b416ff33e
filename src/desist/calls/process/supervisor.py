"""The script of a worker: a supervisor that forks the worker proper, and outlives all that the worker starts.

Started by `worker` as a file, not as a module, so that nothing of desist is imported here. The supervisor leads the
session and the process group; it is a subreaper, so whatever the tool starts, in whatever session, becomes its child
when its own parent dies. When the worker ends, or the parent asks or is gone, it kills its children until it has none
left: then nothing is. The user's code can't hold it up, because none runs in it.

Arguments: the descriptors of the two sockets (requests; control) and the process id of the parent.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

_DIE_WITH_PARENT, _SUBREAPER = 1, 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main() -> None:
    """Be the supervisor, and in a fork the worker."""
    requests, control, parent = (int(word) for word in sys.argv[1:4])
    for descriptor in (requests, control):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the group: for the worker and what that started
    _prctl(_SUBREAPER, 1)
    own = os.getpid()
    worker = os.fork()
    if worker == 0:
        _prctl(_DIE_WITH_PARENT, int(signal.SIGKILL))
        if os.getppid() != own:
            os._exit(1)
        os.close(control)
        _work(requests)
        return
    os.close(requests)
    _watch(worker, control, parent)
    status = _kill_remaining(worker)
    try:
        os.write(control, b"%d" % status)
    except OSError:
        pass
    os._exit(0)


def _work(requests: int) -> None:
    sys.path.insert(0, os.path.dirname(__file__))
    module = __import__("worker_main")
    del sys.path[0], sys.modules["worker_main"]  # the user may have a module of this name
    module.serve(requests)


def _watch(worker: int, control: int, parent: int) -> None:
    """Wait until the worker has ended, the parent has asked for its end, or the parent is gone.

    That shows in two ways, because a program that the parent forked may hold the other end of `control`.
    """
    poll = select.poll()
    poll.register(os.pidfd_open(worker), select.POLLIN)
    poll.register(control, select.POLLIN)
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
    except OSError:
        return
    if os.getppid() == parent:
        poll.poll()


def _kill_remaining(worker: int) -> int:
    """Kill all that is left, and return how the worker ended, as `waitpid` tells it.

    Only direct children are killed: they can't be mistaken, and theirs become ours.
    """
    ended = 0
    own = f"/proc/self/task/{os.getpid()}/children"
    while True:
        try:
            with open(own) as file:
                children = [int(word) for word in file.read().split()]
            for child in children:
                os.kill(child, signal.SIGKILL)
            pid, status = os.waitpid(-1, 0)
            while pid:
                if pid == worker:
                    ended = status
                pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended


if __name__ == "__main__":
    main()
