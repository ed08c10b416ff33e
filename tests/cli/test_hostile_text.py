"""Text of runs, databases and servers can't control the terminal, whichever command prints it."""

from __future__ import annotations

import io
import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from cli_commands import Call
from rich.text import Text

from desist import Step, Workflow
from desist.cli.log import terminal_handler
from desist.cli.render.console import SafeConsole
from desist.db import JsonDb, SqliteDb

#: An escape sequence in seven and in eight bits, an override of the direction, a separator, a bell, DEL.
EVIL = "a\x1b[31mb\x9b31mc\u202ed\u2028e\x07f\x7fg\u200fh\x1b]0;title\x07i"
UNSAFE = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"}
UNSAFE |= {"\u061c", "\u200e", "\u200f", *map(chr, range(0x2028, 0x202F)), *map(chr, range(0x2066, 0x206A))}


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[str, str]:
    """A database with a run whose texts all contain control sequences, and a failed run; the first run's id."""

    def fail(_: Any) -> str:
        raise ValueError(EVIL)

    path = tmp_path / "runs.db"
    db = SqliteDb(path)
    run_id = f"run{EVIL}"
    Workflow(f"W{EVIL}", id="w", steps=[Step(f"S{EVIL}", executor=fail)], db=db).run(
        EVIL, run_id=run_id, session_id=f"s{EVIL}", user_id=EVIL
    )
    Workflow("Other", steps=[Step("one", executor=lambda _: EVIL)], db=db).run(EVIL, run_id=f"two{EVIL}")
    db.close()
    return str(path), run_id


COMMANDS = (
    ("runs",),
    ("show", "RUN"),
    ("events", "RUN"),
    ("events", "RUN", "--follow"),
    ("watch", "RUN"),
    ("cancel", "RUN"),
    ("cancel", "RUN", "two" + EVIL),
    ("cancel", "--all", "--dry-run"),
    ("show", "no" + EVIL),
    ("cancel", "no" + EVIL),
    ("db", "check"),
    ("doctor", "--offline"),
)


@pytest.mark.parametrize("as_json", [False, True], ids=["people", "json"])
@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command)[:20].encode("unicode_escape").decode()
)
def test_no_command_prints_control_sequences(
    desist: Call, hostile: tuple[str, str], command: tuple[str, ...], as_json: bool
) -> None:
    """Neither standard output nor standard error contains control sequences; in JSON they are escaped, not lost."""
    path, run_id = hostile
    more = ("--json",) if as_json else ()
    _, out, errors = desist(*[run_id if word == "RUN" else word for word in command], "--db", path, *more)
    assert out or errors
    assert not UNSAFE & set(out), ascii(out)
    assert not UNSAFE & set(errors), ascii(errors)
    if as_json and command == ("show", "RUN"):
        assert json.loads(out)["run_id"] == run_id


def test_a_name_of_a_database(desist: Call, tmp_path: Path) -> None:
    """The name of a missing database is sanitized, in errors and in `doctor`, and its password is removed."""
    for command in (("runs",), ("doctor", "--offline")):
        for place in (f"{tmp_path}/{EVIL}", f"host={EVIL} password=hunter2", f"x://ann:hunter2@{EVIL}"):
            code, out, errors = desist(*command, "--db", place)
            assert code == 1 and not UNSAFE & set(out + errors) and "hunter2" not in out + errors, (out, errors)


def test_addresses_of_models(desist: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` shows hosts without passwords and keys, also of invalid URLs and unreachable servers."""
    for url in ("http://ann:hunter2@127.0.0.1:1/v1?api_key=hunter2", "http://ann:hunter2@[/v1", f"{EVIL}:hunter2@x"):
        for name in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
            monkeypatch.setenv(f"{name}_API_KEY", "hunter2-key")
        for more in ((), ("--json",)):
            code, out, errors = desist("doctor", *more)
            assert code == 1 and "hunter2" not in out + errors and not UNSAFE & set(out + errors), (out, errors)


def test_the_log_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log message is one line, a traceback keeps its lines; neither contains control sequences or credentials."""
    handler = terminal_handler()
    stream = io.StringIO()
    handler.setStream(stream)  # type: ignore[attr-defined]  # a StreamHandler
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise ValueError(f"postgresql://ann:hunter2@host {EVIL}")
    except ValueError:
        log.exception("run %s\nERROR forged", EVIL)
    said = stream.getvalue()
    assert said.startswith("run a\\u001b[31m") and "\\u000aERROR forged\n" in said and "Traceback" in said
    assert not UNSAFE & set(said) and "hunter2" not in said


def test_a_console_keeps_its_own_styles() -> None:
    """Rich's own control sequences pass; those in text do not."""
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, color_system="standard", width=200, _environ={})
    console.print(Text(EVIL, style="red"))
    assert out.getvalue().count("\x1b") == 2 and out.getvalue().startswith("\x1b[31m")
    assert not (UNSAFE - {"\x1b"}) & set(out.getvalue())


def test_files_are_private(tmp_path: Path) -> None:
    """A new database and the files beside it are readable by their user only; an existing file is not changed."""
    path, folder, shared = tmp_path / "runs.db", tmp_path / "runs", tmp_path / "shared.db"
    shared.touch(0o664)
    shared.chmod(0o664)
    dbs = [SqliteDb(path), JsonDb(folder), SqliteDb(shared)]
    for db in dbs:
        Workflow("W", steps=[Step("one", executor=lambda _: "done")], db=db).run("x")
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    assert modes["shared.db"] == 0o664
    assert {modes[name] for name in ("runs.db", "runs.db-wal", "runs.db-shm")} == {0o600}
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir() if one.is_dir()} == {0o700}
    for db in dbs:
        db.close()
