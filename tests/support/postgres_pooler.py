"""A real PgBouncer before a server, for tests."""

from __future__ import annotations

import shutil
import subprocess
import threading
from types import TracebackType

from postgres_databases import missing

from desist.testing import LocalPostgres
from desist.testing.postgres import _free_port

__all__ = ["Pooler"]


class Pooler:
    """PgBouncer on loopback; `mode` is "transaction" or "session"; it has `size` connections of the server."""

    def __init__(self, server: LocalPostgres, mode: str, size: int = 20) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            missing("pgbouncer", "PgBouncer isn't installed (Debian: pgbouncer)")
            raise AssertionError
        self.port = _free_port("127.0.0.1")
        folder = server.folder
        users, config = folder / f"users{self.port}.txt", folder / f"bouncer{self.port}.ini"
        users.write_text('"desist" ""\n')
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
            f"pool_mode = {mode}\ndefault_pool_size = {size}\n"
        )
        for path in (users, config):
            path.chmod(0o644)
        options = server._process_options()
        self._process = subprocess.Popen([program, str(config)], stderr=subprocess.PIPE, text=True, **options)
        self._up = threading.Event()
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._up.wait(30) and self._process.poll() is None, self._said

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://desist@127.0.0.1:{self.port}/postgres"

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            if "process up" in line:
                self._up.set()
        self._up.set()

    def __enter__(self) -> Pooler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(30)
        self._reader.join(30)
        assert self._process.stderr is not None
        self._process.stderr.close()
