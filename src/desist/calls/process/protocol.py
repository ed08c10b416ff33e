"""The protocol of worker processes: frames, and the pickles in them. `worker_main` is the other end.

A frame is one byte of kind, eight of length, and the body. To the worker: `P`, modules to import in advance, and `C`, a
call. From the worker: `R`, ready; `I`, an item of a generator, then `E` at its end; `V`, a value; `X`, an exception;
`U`, the reason why something can't be pickled; `T`, ended by a SIGTERM. In lower case: the worker ends now and takes no
more calls.
Functions are pickled by their import name, tools that a decorator made of functions too.
"""

from __future__ import annotations

import io
import pickle
import pkgutil
import struct
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from desist.exceptions import ConfigurationError, RunCancelled, ToolError

__all__ = ["HEAD", "check_importable", "frame", "main_module", "pack_call", "raised", "unpack"]

HEAD = struct.Struct("!cQ")


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """Return a frame, ready to be sent."""
    return HEAD.pack(kind, len(body)) + body


class _Pickler(pickle.Pickler):
    """A pickler that pickles functions by name and collects the modules that are needed."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.modules: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type):
            self.modules.add(value.__module__)
        elif isinstance(value, FunctionType):
            check_importable(value, repr(value.__qualname__))
            self.modules.add(value.__module__)
            if _named(value) is value:
                return NotImplemented
            return pkgutil.resolve_name, (f"{value.__module__}:{value.__qualname__}",)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """An unpickler that also knows the main module of this process by its name in a worker."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("__main__" if module == "__mp_main__" else module, name)


def check_importable(function: Callable[..., Any], whose: str, *, defined: bool = True) -> None:
    """Raise `ConfigurationError` for a function that another process can't import by its name.

    Parameters:
        function: a plain function, as `def` makes it.
        whose: how it is called in the error.
        defined: False while its module is still being run, when its name need not be there yet.
    """
    module, path = function.__module__, function.__qualname__
    advice = "define it with def at the top of a module, or leave isolation='process' out"
    if "<" in path:
        kind = "a lambda" if path.endswith("<lambda>") else "defined inside another function"
        raise ConfigurationError(f"{whose} can't run in a process of its own: it is {kind} ({path}); {advice}")
    if module == "__main__":
        main_module()
    if not defined:
        return
    found = _named(function)
    if function in (
        found,
        getattr(found, "entrypoint", None),
    ):  # the function itself, or the tool that `@tool` made of it
        return
    raise ConfigurationError(
        f"{whose} can't run in a process of its own: {module}.{path} is something else there than here; {advice}"
    )


def _named(function: Callable[..., Any]) -> Any:
    """Return the object with the name of a function in its module, or None."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found


def main_module() -> str:
    """Return how a worker can import the main module of this process: "module:" and its name, or "path:" and its file.

    Raises:
        ConfigurationError: it has neither: an interactive session, `python -c`, or a program read from stdin.
    """
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return f"module:{spec.name}"
    if file is None or file.startswith("<"):
        raise ConfigurationError(
            "what is defined in an interactive session, or a program without a file, can't run in a process of its "
            "own: no other process can import it. Put it in a module"
        )
    return f"path:{file}"


def pack_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str
) -> tuple[bytes, str | None, set[str]]:
    """Return a call as bytes, the main module if it needs that (see `main_module`), and the modules that it needs.

    Raises:
        ConfigurationError: the function can't be imported by name.
        ToolError: an argument can't be pickled; names the place.
    """
    try:
        body, modules = _pickled((function, args, dict(kwargs)))
    except Exception as error:
        places: list[tuple[str, Any]] = [("the function itself", function)]
        places += [(f"positional argument {n}", value) for n, value in enumerate(args)]
        places += [(f"argument {key!r}", value) for key, value in kwargs.items()]
        where = next((found for place, value in places if (found := _find_unpicklable(place, value, 6))), str(error))
        if isinstance(error, ConfigurationError) and where.startswith("the function itself"):
            raise
        raise ToolError(
            f"{name!r} can't be called in a process of its own: {where} can't be pickled ({error}). "
            "Pass plain data, and open clients, files and locks inside the function"
        ) from error
    needs_main = "__main__" in modules or "__mp_main__" in modules
    return body, main_module() if needs_main else None, modules - {"__main__", "__mp_main__", "builtins"}


def _pickled(value: Any) -> tuple[bytes, set[str]]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), pickler.modules


def _find_unpicklable(path: str, value: Any, depth: int) -> str | None:
    """Return the innermost place in `value` that can't be pickled, with its type; None if all of it can be."""
    try:
        _pickled(value)
        return None
    except Exception:
        pass
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    elif not isinstance(value, FunctionType) and hasattr(value, "__dict__"):
        inner = [(f"{path}.{key}", item) for key, item in vars(value).items()]
    if depth and (found := next((f for each in inner if (f := _find_unpicklable(*each, depth - 1))), None)):
        return found
    return f"{path} ({type(value).__module__}.{type(value).__qualname__})"


def unpack(body: bytes | bytearray, name: str) -> Any:
    """Return the value in a body.

    Raises:
        ToolError: it can't be built in this process.
    """
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise ToolError(f"what {name!r} sent from its process can't be read here ({words}): use plain data") from error


def raised(body: bytes | bytearray, name: str) -> BaseException:
    """Return the exception that a call raised in its process: of its own type if that can be built here.

    Its traceback there is a note. What would end a loop here is a `ToolError`.
    """
    pickled, kind, words, trace = pickle.loads(body)
    error: Any = None
    if pickled is not None:
        try:
            error = _Unpickler(io.BytesIO(pickled)).load()
        except Exception:
            pass
    if not isinstance(error, Exception | SystemExit | RunCancelled):
        error = ToolError(f"{kind}: {words}" if words else kind)
    error.add_note(f"in the process of {name!r}:\n{trace.rstrip()}")
    assert isinstance(error, BaseException)
    return error
