"""`LocalPostgres`: a temporary Postgres server on loopback, made from the installed binaries, for a test.

For tests and benchmarks, desist's own too. The server isn't durable (`fsync=off`) and accepts any user of this machine
without a password.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from desist.exceptions import ConfigurationError

__all__ = ["LocalPostgres"]

#: Seconds for a server to start or stop on a busy machine.
PATIENCE = 60.0
LOOPBACK = "127.0.0.1"
_SIGNALS = {"smart": "SIGTERM", "fast": "SIGINT", "crash": "SIGQUIT"}
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")


class LocalPostgres:
    """A Postgres server with its own data folder: `with LocalPostgres() as server: ... server.url`.

    If this process runs as root, which Postgres refuses, the server runs as a different user. The server listens on a
    free port of loopback and on a Unix socket in its folder.

    Parameters:
        host: the address to listen on. If it isn't loopback, every host of its networks may connect.
        settings: additional settings of `postgresql.conf`.

    Raises:
        ConfigurationError: Postgres isn't installed or doesn't start; the message has its output.
    """

    def __init__(self, *, host: str = LOOPBACK, settings: Mapping[str, object] | None = None) -> None:
        found = self.binaries()
        if found is None:
            raise ConfigurationError("no initdb in PATH or /usr/lib/postgresql: install Postgres (Debian: postgresql)")
        self.host, self.port = host, _free_port(host)
        self._binaries, self._settings = found, dict(settings or {})
        self._account = _unprivileged_account()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._lines: deque[str] = deque(maxlen=200)
        self.folder = Path(tempfile.mkdtemp(prefix="desist-postgres-"))
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def binaries() -> Path | None:
        """Return the folder of the newest installed Postgres programs; None if Postgres isn't installed."""
        known = shutil.which("initdb")
        if known is not None:
            return Path(known).parent
        found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        return max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)

    def _make(self) -> None:
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        self._do("initdb", "-D", self._data, "-U", "desist", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        if self.host != LOOPBACK:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _do(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, **self._process_options()
        )
        if done.returncode:
            raise ConfigurationError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _process_options(self) -> dict[str, Any]:
        environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
        return {"cwd": self.folder, "env": {**environment, "LC_ALL": "C"}, **self._account}

    # -- running

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        settings = {
            "port": self.port,
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "log_min_messages": "log",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._ready.clear()
        command = [str(self._binaries / "postgres"), "-D", self._data, *options]
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **self._process_options(),
        )
        self._reader = threading.Thread(target=self._read, args=(process,), name="local-postgres", daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or process.poll() is not None:
            log = self.log()
            self.stop("crash")
            raise ConfigurationError(f"Postgres didn't start: {log}")

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Read the server's log, so that its pipe doesn't fill up."""
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._lines.append(line.rstrip())
                if "ready to accept connections" in line:
                    self._ready.set()
        process.wait()
        self._ready.set()  # the server has ended: wake `start()`, which checks for that

    def stop(self, how: Literal["smart", "fast", "crash"] = "fast") -> None:
        """Stop the server and wait for its end.

        Parameters:
            how: "smart" waits for all clients, "fast" disconnects them, "crash" simulates a loss of power.
        """
        process = self._process
        if process is None or self._reader is None:
            return
        if process.poll() is None:
            process.send_signal(getattr(signal, _SIGNALS[how]))
        self._reader.join(PATIENCE)
        if process.poll() is None:
            process.kill()
            self._reader.join(PATIENCE)
        self._process = self._reader = None

    def restart(self, how: Literal["fast", "crash"] = "fast") -> None:
        """Stop the server and start it again with the same data."""
        self.stop(how)
        self.start()

    def log(self) -> str:
        """Return the last lines of the server's log."""
        return "\n".join(self._lines)

    # -- using it

    @property
    def url(self) -> str:
        """The URL of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str, schema: str | None = None) -> str:
        """Return the URL of a database; with `schema`, that schema is its search path."""
        at = f"postgresql://desist@{self.host}:{self.port}/{database}"
        return at if schema is None else f"{at}?options=-csearch_path%3D{schema}"

    def do(self, statement: str, *values: object, url: str | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement in a new connection; return the rows."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def new_schema(self, name: str) -> str:
        """Create an empty schema and return a URL with that schema as the search path."""
        self.do(f'CREATE SCHEMA "{name}"')
        return self.url_of("postgres", name)

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop("crash")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> LocalPostgres:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _unprivileged_account() -> dict[str, Any]:
    """Return the `Popen` options for running as an unprivileged user; empty if this process isn't root's."""
    if os.geteuid() != 0:
        return {}
    import pwd  # not on all systems

    for name in ("postgres", "nobody"):
        try:
            known = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": []}
    raise ConfigurationError("Postgres doesn't run as root, and there is no user 'postgres' or 'nobody' here")


def _free_port(host: str) -> int:
    with socket.socket() as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])
