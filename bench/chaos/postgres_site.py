"""A Postgres that can be broken: a server of the harness's own, from the binaries that are installed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil

from desist.testing import LocalPostgres

__all__ = ["PostgresSite"]

_FINAL = "('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED')"
_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'desist'"


class PostgresSite:
    """The server, what can be done to it, and what is found in it afterwards."""

    def __init__(self, folder: Path) -> None:
        self._server = LocalPostgres()
        self._server.start()
        self._log = folder / "postgres.log"
        self.url = self._server.url
        self.spared: tuple[str, ...] = ()

    def restart(self, seconds: float) -> None:
        """Stop the server as if the machine had lost its power, and start it again."""
        self._server.stop("crash")
        time.sleep(seconds)
        self._server.start()

    def terminate(self, seconds: float) -> None:
        """End all connections, twice."""
        self._server.do(_OTHERS)
        time.sleep(seconds)
        self._server.do(_OTHERS)

    def freeze_server(self, seconds: float) -> None:
        """Let the server and all its processes do nothing."""
        main = psutil.Process(int((self._server.folder / "data" / "postmaster.pid").read_text().split()[0]))
        stopped = [main]  # first: then it starts no more
        main.send_signal(signal.SIGSTOP)
        try:
            for child in main.children(recursive=True):
                stopped.append(child)
                child.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
        finally:
            for process in stopped:
                if process.is_running():
                    process.send_signal(signal.SIGCONT)

    def wrong(self) -> list[str]:
        """Return what is wrong with the tables themselves."""
        left = self._server.do(f"SELECT run_id, status FROM desist_runs WHERE status NOT IN {_FINAL}")
        stray = self._server.do(
            f"SELECT count(*) FROM desist_run_parts p NATURAL JOIN desist_runs r WHERE r.status IN {_FINAL}"
        )
        words = [f"open at the end: {row}" for row in left]
        return words + ([f"{stray[0][0]} parts of runs that have ended"] if stray[0][0] else [])

    def close(self) -> None:
        """Stop the server; what it said last is kept."""
        self._log.write_text(self._server.log())
        self._server.close()
