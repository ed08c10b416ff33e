"""`desist doctor`, `desist db check` and `upgrade`, and completion in shells."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cli_commands import Call, ended

from desist.testing import LoopbackProvider


@pytest.fixture(autouse=True)
def nothing_is_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def found(out: str) -> dict[str, dict[str, Any]]:
    return {f"{one['area']} {one['name']}": one for one in json.loads(out)}


def test_nothing_is_configured(desist: Call) -> None:
    """The features of this machine work, each extra is listed, and parts that are not configured are not broken."""
    code, out, _ = desist("doctor", "--json")
    told = found(out)
    assert code == 0
    for name in ("pidfd", "audit hooks", "thread interrupts", "unix datagrams", "process groups", "sqlite"):
        assert told[f"machine {name}"]["state"] == "ok", told[f"machine {name}"]
    assert "fastapi" in told["extras server"]["message"]
    assert told["models openai"]["state"] == told["connections database"]["state"] == "absent"
    code, out, _ = desist("doctor", "--offline")
    assert code == 0 and "nothing configured is broken" in out and "OPENAI" not in out


def test_configured_models(desist: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is checked without a prompt. If it is unreachable: broken, exit code 1; the key is not shown."""
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    with LoopbackProvider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        code, out, _ = desist("doctor", "--json")
        assert (code, found(out)["models openai"]["state"]) == (0, "ok")
        assert [one for one in provider.exchanges if "messages" in one.request] == []
    code, out, _ = desist("doctor")
    assert code == 1 and "can't be reached" in out and "1 broken" in out and "a-secret-key" not in out


def test_connections(desist: Call, tmp_path: Path) -> None:
    """A database is opened and checked, a port is tried. A damaged file is broken; a port in use is only weak."""
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    ended(good)
    bad.write_bytes(b"this is no database" * 1000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, out, _ = desist("doctor", "--offline", "--json", "--db", str(good), "--port", port)
    told = found(out)
    assert (code, told["connections database"]["state"], told[f"connections port {port}"]["state"]) == (0, "ok", "weak")
    code, out, _ = desist("doctor", "--offline", "--json", "--db", str(bad))
    assert (code, found(out)["connections database"]["state"]) == (1, "broken")
    code, out, _ = desist("doctor", "--json", "--server", "http://127.0.0.1:9")
    assert (code, found(out)["connections server"]["state"]) == (1, "broken")


def test_check_and_upgrade(desist: Call, tmp_path: Path) -> None:
    """Both commands print the version; a damaged file is one line and exit code 1."""
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    ended(good)
    for command in ("check", "upgrade"):
        code, out, _ = desist("db", command, "--json", "--db", str(good))
        report = json.loads(out)
        assert (code, report["version"], report["problems"]) == (0, report["wanted"], [])
    assert "version" in desist("db", "check", "--db", str(good))[1]
    bad.write_bytes(b"this is no database" * 1000)
    code, _, errors = desist("db", "check", "--db", str(bad))
    assert code == 1 and "not a SQLite database" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(desist: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str) -> None:
    """There is a script for each shell. Run ids are completed from the database; without one there are none."""
    monkeypatch.setenv("_DESIST_COMPLETE", f"source_{shell}")
    assert "desist" in desist()[1]
    first, second = ended(tmp_path / "desist.db"), ended(tmp_path / "other.db")
    monkeypatch.setenv("_DESIST_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for words, expected in (
        (f"desist show {first[:4]}", first),
        (f"desist show --db other.db {second[:4]}", second),
        (f"desist cancel --db no.db {first[:4]}", None),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        _, out, errors = desist()
        assert (expected is None or expected in out) and errors == ""
