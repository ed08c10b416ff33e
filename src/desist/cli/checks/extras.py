"""Check which extras are installed. The list comes from the package's own metadata, so it is always complete."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from functools import partial

from desist.cli.checks.result import CheckResult, State

__all__ = ["extras"]

_result = partial(CheckResult, "extras")
_NEED = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<version>[^;]*);.*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def extras() -> Iterator[CheckResult]:
    """Check each extra; a partly installed one is weak."""
    needs: dict[str, list[tuple[str, str]]] = {}
    for line in importlib.metadata.requires("desist") or ():
        found = _NEED.match(line)
        if found is not None:
            needs.setdefault(found["extra"], []).append((found["name"], found["version"].strip()))
    for extra, parts in sorted(needs.items()):
        yield _extra(extra, parts)


def _extra(extra: str, parts: list[tuple[str, str]]) -> CheckResult:
    known = {name: _version(name) for name, _ in parts}
    installed = ", ".join(f"{name} {version}" for name, version in known.items() if version is not None)
    missing = [f"{name}{wanted}" for name, wanted in parts if known[name] is None]
    if not missing:
        return _result(extra, State.ok, installed)
    install = f"pip install 'desist[{extra}]'"
    if not installed:
        return _result(extra, State.absent, install)
    return _result(extra, State.weak, f"{installed}; missing: {', '.join(missing)}: {install}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
