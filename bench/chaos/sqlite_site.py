"""A SQLite file that can be broken: on a small file system of its own, where the machine lets us mount one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

__all__ = ["SqliteSite"]

#: Megabytes of that file system.
ROOM = 32
_FINAL = "('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED')"


class SqliteSite:
    """The file, what can be done to it, and what is found in it afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "db"
        self._folder.mkdir()
        self._mounted = os.geteuid() == 0 and _mount(self._folder)
        self.file = self._folder / "runs.db"
        self.url = f"sqlite:///{self.file}"
        self.spared = () if self._mounted else ("full",)  #: faults that can't be made here

    def full(self, seconds: float) -> None:
        """Fill the file system, and free it again."""
        ballast = self._folder / "ballast"
        with suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        time.sleep(seconds)
        ballast.unlink()

    def locked(self, seconds: float) -> None:
        """Hold the lock that every writer needs."""
        with closing(sqlite3.connect(self.file, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def wrong(self) -> list[str]:
        """Return what is wrong with the file itself."""
        with closing(sqlite3.connect(self.file, timeout=30)) as connection:
            checked = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            left = connection.execute(f"SELECT run_id, status FROM desist_runs WHERE status NOT IN {_FINAL}").fetchall()
        return [words for words in checked if words != "ok"] + [f"open at the end: {row}" for row in left]

    def close(self) -> None:
        """Take the file system away; what was in the file is kept beside it."""
        if self._mounted:
            with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(self._kept)) as kept:
                source.backup(kept)
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    @property
    def _kept(self) -> Path:
        return self._folder.with_name("kept.db")


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "desist-chaos", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False
