"""Import a workflow or agent named on the command line: `module:name` or `file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from desist.agent.agent import Agent
from desist.exceptions import ConfigurationError, DesistError
from desist.workflow.workflow import Workflow

__all__ = ["load", "load_all", "load_default"]


def load(target: str) -> Workflow | Agent:
    """Return the workflow or agent that `target` names.

    Raises:
        ConfigurationError: the target doesn't exist; the message lists the names that do.
    """
    source, _, name = target.rpartition(":")
    if not source or not name:
        raise ConfigurationError(f"{target!r} names no object: use module:name or file.py:name")
    module = _module(source)
    found = getattr(module, name, None)
    if not isinstance(found, Workflow | Agent):
        known = [key for key, value in vars(module).items() if isinstance(value, Workflow | Agent)]
        there = ", ".join(known) or "none"
        raise ConfigurationError(f"{source} has no workflow or agent {name!r}; there: {there}")
    return found


def load_all(targets: Sequence[str]) -> tuple[list[Workflow], list[Agent]]:
    """Return the workflows and the agents that the targets name; see `load`."""
    found = [load(target) for target in targets]
    return [one for one in found if isinstance(one, Workflow)], [one for one in found if isinstance(one, Agent)]


def load_default(target: str) -> Any:
    """Return the workflow or agent that `target` names; without a name, the only workflow, else the only agent.

    Raises:
        ConfigurationError: the file or module has none, or more than one.
    """
    if ":" in target:
        return load(target)
    module = _module(target)
    for kind in (Workflow, Agent):
        known = {id(value): name for name, value in vars(module).items() if isinstance(value, kind)}
        if len(known) > 1:
            names = ", ".join(f"{target}:{name}" for name in known.values())
            raise ConfigurationError(f"{target} has more than one {kind.__name__.lower()}: name one of {names}")
        if known:
            return getattr(module, next(iter(known.values())))
    raise ConfigurationError(f"{target} has no workflow or agent")


def _module(source: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return _file(Path(source).resolve(), source) if source.endswith(".py") else importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is None or not source.startswith(error.name):
            raise _broken(source, error) from error
        raise ConfigurationError(f"there is no module {source!r} here: pass the path of its file") from error
    except DesistError:
        raise
    except Exception as error:
        raise _broken(source, error) from error


def _file(path: Path, source: str) -> ModuleType:
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"there is no file {source}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _broken(source: str, error: Exception) -> ConfigurationError:
    """Return the error for a module that fails to import, with the innermost line outside the import system."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return ConfigurationError(f"{source} can't be loaded: {type(error).__name__}: {error}{where}")
