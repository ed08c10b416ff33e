"""Lazy imports of a package's public names, so that importing the package is cheap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package.

    Parameters:
        package: its `__name__`.
        modules: name -> the module that defines it.

    An import that fails raises its own error; an AttributeError in it becomes an ImportError that says so.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import importlib

        try:
            value = getattr(importlib.import_module(modules[name]), name)
        except AttributeError as error:  # `from package import name` would hide it: there is no such name
            raise ImportError(f"{package}.{name} can't be imported: {type(error).__name__}: {error}") from error
        vars(sys.modules[package])[name] = value
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *modules})
