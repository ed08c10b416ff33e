"""The script of a worker: a supervisor that forks the worker proper and outlives all processes of the worker.

Started by `worker_process` as a file and not as a module, so that nothing of desist is imported here. The supervisor
leads the session and the process group; it is a subreaper, so every process that a call starts, in any session, becomes
its child when the process's own parent dies. When the worker ends, the parent requests it or the parent is gone, the
supervisor kills its children until it has none. No user code runs in it that could delay this.

Arguments: the descriptors of the two sockets (requests; control) and the process id of the parent.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

_DIE_WITH_PARENT, _SUBREAPER = 1, 36


def main() -> None:
    """Be the supervisor, and in a fork the worker."""
    requests, control, parent = (int(word) for word in sys.argv[1:4])
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for descriptor in (requests, control):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SIGTERM to the group is for the worker and its processes
    prctl(_SUBREAPER, 1)
    own = os.getpid()
    worker = os.fork()
    if worker == 0:
        prctl(_DIE_WITH_PARENT, int(signal.SIGKILL))
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
    """Wait until the worker has ended, the parent has requested its end, or the parent is gone.

    The end of the parent shows in two ways, because a program that it forked may hold the other end of `control`.
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
    """Kill all remaining processes and return the status of the worker as `waitpid` does.

    Only direct children are killed: their numbers can't be reused before they are reaped here, and their children
    become children of this process.
    """
    ended: int | None = None
    while True:
        try:
            for child in _children() or ([worker] if ended is None else []):
                os.kill(child, signal.SIGKILL)
            pid, status = os.waitpid(-1, 0)
            while pid:
                if pid == worker:
                    ended = status
                pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended or 0


def _children() -> list[int]:
    """Return the direct children; none where the system doesn't tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
