"""The loop of a worker process: it receives calls, makes them in the main thread and sends the results.

Loaded by `supervisor` in the worker proper, by its path: it may import nothing of desist but, when first needed, its
exceptions. `protocol` is the other end and describes the frames. One SIGTERM raises `RunCancelled` in the call and ends
the worker after it; outside of a call it ends the worker at once.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import struct
import sys
from collections.abc import Iterator

TYPE_CHECKING = False  # typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

HEAD = struct.Struct("!cQ")
try:
    import resource
except ImportError:  # not a POSIX system, where no worker is started
    resource = None  # type: ignore[assignment]

#: The state of the worker: a SIGTERM is handled differently in each.
IDLE, CALLING, SENDING = 0, 1, 2
_LIMITS = [value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_")] if resource else []


class ProcessWorkerMain:
    """A process that makes calls, one at a time. All in the main thread; SIGTERM interrupts it there."""

    def __init__(self, requests: int) -> None:
        self.line = requests
        self.where = IDLE
        self.terminated = False  #: a SIGTERM was received
        self.connected = True  #: the parent reads the frames
        self.settings: tuple[list[str], str, dict[str, str]] | None = None
        self.main: str | None = None

    def serve(self) -> None:
        """Make calls until the parent closes the connection."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._send(b"R")
        while not self.terminated and (frame := self._receive()) is not None:
            kind, body = frame
            if kind == b"P":
                self._preload(body)
            elif not self._call(body):
                return

    def _on_term(self, *_: Any) -> None:
        if self.where == IDLE:
            os._exit(0)
        if self.terminated:
            return
        self.terminated = True
        if self.where == CALLING:
            raise _exceptions().RunCancelled(None)

    # -- one call

    def _call(self, body: bytes) -> bool:
        """Make a call and send its result; return whether this process is fit for another call."""
        limits = _limits()
        try:
            settings, extra, main, call = pickle.loads(body)
            self._settle(settings, extra)
            _exceptions()  # imported now, and not for the first time in a signal handler
            if main is not None:
                self._import_main(main)
            kind, answer = self._made(call)
        except BaseException as error:
            kind, answer = self._failed(error)
        self.where = SENDING
        fit = not self.terminated and _limits() == limits and not _children()
        _flush()
        self._answer(kind if fit else kind.lower(), answer)
        if fit:
            signal.signal(signal.SIGTERM, self._on_term)
            self.where = IDLE
        return fit and not self.terminated

    def _made(self, call: bytes) -> tuple[bytes, bytes]:
        function, args, kwargs = pickle.loads(call)
        try:
            self.where = CALLING
            value = function(*args, **kwargs)
            if isinstance(value, Iterator):
                self._stream(value)
                self.where = SENDING
                return b"E", b""
        finally:
            self.where = SENDING
        if hasattr(value, "__await__") or hasattr(value, "__anext__"):
            if hasattr(value, "close"):
                value.close()
            return b"U", f"it returned {type(value).__name__}, which can't leave its process".encode()
        return _packed(b"V", value, "its result")

    def _stream(self, items: Iterator[Any]) -> None:
        """Send each item as it is produced. A SIGTERM while an item is sent is raised inside the generator."""
        try:
            while True:
                self.where = CALLING
                try:
                    item = next(items)
                except StopIteration:
                    return
                self.where = SENDING
                kind, body = _packed(b"I", item, "an item that it yields")
                if kind == b"U":
                    raise _exceptions().ToolError(body.decode())
                self._send(kind, body)
                if self.terminated:
                    cancelled = _exceptions().RunCancelled(None)
                    if hasattr(items, "throw"):
                        items.throw(cancelled)
                    raise cancelled
        finally:
            self.where = SENDING
            if hasattr(items, "close"):
                items.close()  # does nothing if the generator has ended

    def _failed(self, error: BaseException) -> tuple[bytes, bytes]:
        """Return the frame of an exception: the exception if it can be pickled, and its text in any case."""
        self.where = SENDING
        if self.terminated and isinstance(error, _exceptions().RunCancelled):
            return b"T", b""
        import traceback

        rows = traceback.TracebackException.from_exception(error)
        while rows.stack and rows.stack[0].filename == __file__:
            del rows.stack[0]
        try:
            itself: bytes | None = pickle.dumps(error, protocol=5)
        except Exception:
            itself = None
        words = (itself, type(error).__name__, str(error), "".join(rows.format()))
        return b"X", pickle.dumps(words, protocol=5)

    def _answer(self, kind: bytes, body: bytes) -> None:
        try:
            self._send(kind, body)
        except MemoryError:
            os._exit(1)

    # -- the settings of a call

    def _settle(self, settings: tuple[list[str], str, dict[str, str]] | None, extra: dict[str, str]) -> None:
        """Take over path, directory and environment of the parent. None: those of the last call, undoing its changes.

        `extra` is added to the environment.
        """
        if settings is not None:
            self.settings = settings
        assert self.settings is not None
        path, folder, environment = self.settings
        environment = environment | extra
        if sys.path != path:
            sys.path[:] = path
        if os.getcwd() != folder:
            os.chdir(folder)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)

    def _preload(self, body: bytes) -> None:
        """Import the modules that calls of other workers needed, while no call waits."""
        settings, extra, names = pickle.loads(body)
        self._settle(settings, extra)
        for name in names:
            try:
                __import__(name)
            except Exception:
                pass  # the call that needs the module raises the error

    def _import_main(self, main: str) -> None:
        """Import the main module of the parent under another name: code guarded by `__name__` doesn't run again."""
        if self.main == main:
            return
        import runpy
        from types import ModuleType

        module = ModuleType("__mp_main__")
        os.environ["DESIST_IMPORTS_MAIN"] = "1"
        try:
            if main.startswith("module:"):
                found = runpy.run_module(main.removeprefix("module:"), run_name="__mp_main__", alter_sys=True)
            else:
                found = runpy.run_path(main.removeprefix("path:"), run_name="__mp_main__")
        finally:
            del os.environ["DESIST_IMPORTS_MAIN"]
        module.__dict__.update(found)
        sys.modules["__desist_main__"] = sys.modules["__main__"]
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        self.main = main

    # -- frames

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        if not self.connected:
            return
        head = HEAD.pack(kind, len(body))
        try:
            if len(body) < 65536:
                self._write(head + body)
            else:
                self._write(head)
                self._write(body)
        except OSError:  # the parent reads no more; the call runs to its end
            self.connected = False

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self.line, left) :]

    def _receive(self) -> tuple[bytes, bytes] | None:
        head = self._exactly(HEAD.size)
        if head is None:
            return None
        kind, length = HEAD.unpack(head)
        body = self._exactly(length)
        return None if body is None else (kind, bytes(body))

    def _exactly(self, length: int) -> bytearray | None:
        data = bytearray(length)
        view, got = memoryview(data), 0
        while got < length:
            try:
                count = os.readv(self.line, [view[got:]])
            except OSError:
                return None
            if not count:
                return None
            got += count
        return data


def _packed(kind: bytes, value: Any, what: str) -> tuple[bytes, bytes]:
    """Return the frame of a value; the frame `U` with the reason if it can't be pickled."""
    try:
        return kind, pickle.dumps(value, protocol=5)
    except MemoryError:
        raise
    except Exception as error:
        told = f"{what} ({type(value).__name__}) can't be pickled ({error}): use plain data"
        return b"U", told.encode(errors="replace")


def _exceptions() -> Any:
    import desist.exceptions

    return desist.exceptions


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(limit) for limit in _LIMITS]


def _children() -> bool:
    """Whether this process or its supervisor has child processes left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    except ChildProcessError:
        pass
    parent = os.getppid()
    try:
        file = os.open(f"/proc/{parent}/task/{parent}/children", os.O_RDONLY)
        try:
            return len(os.read(file, 64).split()) != 1
        finally:
            os.close(file)
    except OSError:
        return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def serve(requests: int) -> None:
    """Make calls until the parent closes its end. Then exit handlers run; the interpreter isn't finalized."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # out of memory, the system kills this process and not its parent
    except OSError:
        pass
    code = 0
    try:
        ProcessWorkerMain(requests).serve()
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    _flush()
    os._exit(code)
