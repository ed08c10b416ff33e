"""Rows as JSON files in a folder: a file for each run and each session, one for the parts of a run without an end.

Names of files tell what is asked for often (session, kind, time, id), so that a look reads only the files it needs.
A file is replaced as a whole, in one move. A lock file lets one process write at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from desist.db.tables.base import EventRow, PartRow, RunRow, Which
from desist.db.writer import BackendBusy, WriteJob
from desist.exceptions import StoreError
from desist.run.records.json_values import dump, to_json_line, to_json_value
from desist.run.storage.values import RunQuery, StoredSession

__all__ = ["JsonFolder", "JsonTables"]

_LONGEST = 40  #: characters of an id in a file's name


def _safe(text: str | None) -> str:
    """Return an id as part of a file's name; different ids have different names."""
    name = quote(text or "", safe="").replace("~", "%7E").replace(".", "%2E")
    return name if len(name) <= _LONGEST else hashlib.sha256(name.encode()).hexdigest()[:_LONGEST]


def _created(path: Path) -> str:
    return path.name.split("~")[2]


class JsonFolder:
    """The folder, as a place for tables.

    Raises:
        StoreError: it can't be made or written.
    """

    apart = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        try:
            for folder in ("runs", "parts", "sessions"):
                (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)  # runs hold what users said
            self._lock_file().close()
        except OSError as error:
            raise StoreError(f"{path}: the folder can't be used: {error}") from error

    def _lock_file(self) -> Any:
        return (self.path / ".lock").open("a")

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs. Each file changes as a whole; files that were changed before a job failed stay changed."""
        try:
            with self._lock_file() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise BackendBusy("another process writes") from error
                tables = JsonTables(self.path, durable=any(job.durable for job in jobs))
                return [job.work(tables) for job in jobs]
        except OSError as error:
            raise StoreError(f"{self.name}: {error}") from error

    def detach(self) -> Callable[[], None]:
        """There is nothing to let go of."""
        return lambda: None

    @contextmanager
    def reading(self) -> Iterator[JsonTables]:
        """Return the tables for a look."""
        try:
            yield JsonTables(self.path, durable=False)
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """There is nothing to let go of."""


class JsonTables:
    """The tables in a folder. See `desist.db.tables.base.Tables`."""

    everywhere = False

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._runs, self._parts, self._sessions = path / "runs", path / "parts", path / "sessions"
        self._durable = durable

    # -- files

    def _replace(self, path: Path, text: bytes) -> None:
        new = path.with_name(f".{path.name[:200]}.new")
        with new.open("wb") as file:
            file.write(text)
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)

    def _names(self, folder: Path, fits: Callable[[list[str]], bool]) -> list[Path]:
        """Return the files whose names' fields fit."""
        names = [name for name in os.listdir(folder) if name.endswith(".json") and not name.startswith(".")]
        return [folder / name for name in names if fits(name[: -len(".json")].split("~"))]

    # -- runs: session~kind~created~id~root~parent.json

    def _find(self, run_id: str) -> Path | None:
        wanted = _safe(run_id)
        found = self._names(self._runs, lambda fields: fields[3] == wanted)
        return found[0] if found else None

    def _read(self, path: Path) -> list[RunRow]:
        try:
            text = path.read_bytes()
        except FileNotFoundError:  # deleted meanwhile
            return []
        return [RunRow(**msgspec.json.decode(text))]

    def get_run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        path = self._find(run_id)
        found = self._read(path) if path is not None else []
        return found[0] if found else None

    def put_run(self, row: RunRow) -> None:
        """Write a run, and drop its parts."""
        before = self._find(row.run_id)
        tree = (_safe(row.run_id), _safe(row.root_run_id), _safe(row.parent_run_id))
        fields = (_safe(row.session_id), row.kind, f"{row.created_at:020.6f}", *tree)
        path = self._runs / f"{'~'.join(fields)}.json"
        self._replace(path, dump(asdict(row)))
        if before is not None and before != path:
            before.unlink(missing_ok=True)
        self._parts_file(row.run_id).unlink(missing_ok=True)

    def delete_run(self, run_id: str) -> bool:
        """Delete a run and its parts."""
        self._parts_file(run_id).unlink(missing_ok=True)
        path = self._find(run_id)
        if path is None:
            return False
        path.unlink(missing_ok=True)
        return True

    def _in_tree(self, field: int, run_id: str) -> list[RunRow]:
        """Return the runs that have an id at a place of their files' names, the oldest first."""
        wanted = _safe(run_id)
        paths = self._names(self._runs, lambda fields: fields[field] == wanted)
        return [row for path in sorted(paths, key=_created) for row in self._read(path)]

    def open_runs(self, root_run_id: str) -> list[RunRow]:
        """Return the runs of a tree that have no end."""
        return [row for row in self._in_tree(4, root_run_id) if row.root_run_id == root_run_id and not row.is_final]

    def children(self, parent_run_id: str) -> list[RunRow]:
        """Return the runs that were started in one."""
        return [row for row in self._in_tree(5, parent_run_id) if row.parent_run_id == parent_run_id]

    def session_runs(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        """Return the last runs of a session, the oldest first."""
        session = _safe(session_id)
        paths = self._names(self._runs, lambda fields: fields[0] == session and kind in (None, fields[1]))
        paths.sort(key=_created)
        rows = [row for path in paths for row in self._read(path) if owner_id in (None, row.owner_id)]
        if which != "all":
            rows = [row for row in rows if row.is_final is (which == "ended")]
        return rows if limit is None else rows[max(0, len(rows) - limit) :]

    def list_runs(self, query: RunQuery) -> list[RunRow]:
        """Return the runs that are meant, the newest first."""
        session = None if query.session_id is None else _safe(query.session_id)
        paths = self._names(self._runs, lambda fields: not fields[5] and session in (None, fields[0]))
        status, found = query.status, list[RunRow]()
        limit = None if status is not None and not status.is_final else query.limit
        for path in sorted(paths, key=lambda path: path.name.split("~")[2:4], reverse=True):
            if limit is not None and len(found) >= limit:
                break
            for row in self._read(path):
                alike = status is None or (row.status == status.value if status.is_final else not row.is_final)
                if alike and query.places(row):
                    found.append(row)
        return found

    # -- parts: id.jsonl

    def _parts_file(self, run_id: str) -> Path:
        return self._parts / f"{_safe(run_id)}.jsonl"

    def add_part(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a run that has no end. Epochs aren't kept here."""
        file = self._parts_file(row.run_id)
        if not file.exists():
            run = self.get_run(row.run_id)
            if run is None or run.is_final:
                return False
        with file.open("ab") as lines:
            lines.write(dump(asdict(row)) + b"\n")
        return True

    def parts(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run. A last line that was cut off by a crash is no part."""
        try:
            lines = self._parts_file(run_id).read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [PartRow(**msgspec.json.decode(line)) for line in lines[:-1]]

    def events(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """Nothing: what runs tell isn't kept in files."""
        return []

    def put_last_events(self, rows: Sequence[EventRow]) -> bool:
        """What runs tell isn't kept in files."""
        return True

    def terminal_event(self, run_id: str) -> EventRow | None:
        """None: what runs tell isn't kept in files."""
        return None

    def put_terminal_last(self, run_id: str) -> None:
        """What runs tell isn't kept in files."""

    def now(self) -> float:
        """Return the time."""
        return time.time()

    def owner(self, process: str) -> tuple[str, float] | None:
        """Nobody says here that it lives."""
        return None

    # -- sessions: id~kind.json

    def _session_file(self, session_id: str, kind: str) -> Path:
        return self._sessions / f"{_safe(session_id)}~{kind}.json"

    def get_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session."""
        try:
            return StoredSession(**msgspec.json.decode(self._session_file(session_id, kind).read_bytes()))
        except FileNotFoundError:
            return None

    def put_session(self, session: StoredSession) -> None:
        """Write a session."""
        self._replace(
            self._session_file(session.session_id, session.kind),
            to_json_line({f.name: to_json_value(getattr(session, f.name)) for f in fields(session)}),
        )

    def session_users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        """Return the users of the sessions with this id, and those of its runs."""
        name = _safe(session_id)
        held = [self.get_session_at(path) for path in self._names(self._sessions, lambda fields: fields[0] == name)]
        speakers = {row.user_id for row in self.session_runs(session_id, None, None, None, "all")}
        return {one.user_id for one in held if one is not None}, speakers

    def lock_session(self, session_id: str) -> None:
        """Who holds the lock file is alone."""

    def lock_run(self, run_id: str) -> None:
        """Who holds the lock file is alone."""

    def delete_session(self, session_id: str, kind: str | None) -> bool:
        """Delete a session, its runs and their parts."""
        name = _safe(session_id)
        files = self._names(self._sessions, lambda fields: fields[0] == name and kind in (None, fields[1]))
        for file in files:
            file.unlink(missing_ok=True)
        runs = self.session_runs(session_id, kind, None, None, "all")
        for row in runs:
            self.delete_run(row.run_id)
        return bool(files or runs)

    def list_sessions(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""
        paths = self._names(self._sessions, lambda fields: kind in (None, fields[1]))
        held = [self.get_session_at(path) for path in paths]
        found = [
            one
            for one in held
            if one is not None and owner_id in (None, one.owner_id) and user_id in (None, one.user_id)
        ]
        return sorted(found, key=lambda session: session.updated_at, reverse=True)[:limit]

    def get_session_at(self, path: Path) -> StoredSession | None:
        """Return the session in a file, or None if it was deleted meanwhile."""
        try:
            return StoredSession(**msgspec.json.decode(path.read_bytes()))
        except FileNotFoundError:
            return None
