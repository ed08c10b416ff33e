"""`JsonTables`: rows as JSON files in a folder. A file for each run and each session, one for the parts of a live run.

The names of the files have what is searched for often (session, kind, time, id), so that a read opens only the files
that it needs. A file is replaced as a whole, by one rename. Events are not stored. No method locks anything: the
process that writes has the lock file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from urllib.parse import quote

import msgspec

from desist.db.tables.base import EventRow, PartRow, RunRow, Which
from desist.run.records.json_values import dump, to_json_line, to_json_value
from desist.run.records.requirement import Requirement
from desist.run.storage.values import RunQuery, StoredSession

__all__ = ["JsonTables"]

#: The maximum of characters of an id in the name of a file.
_LONGEST = 40


class JsonTables:
    """The tables in a folder. `SqlTables` has the documentation of the methods.

    Parameters:
        durable: whether each file is on the disk before the next one is written.
    """

    everywhere = False

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.parts = JsonParts(path)
        self.runs = JsonRuns(path, self.parts, durable)
        self.sessions = JsonSessions(path, self.runs, durable)
        self.events, self.owners, self.requirements = NoEvents(), NoOwners(), NoRequirements()

    def now(self) -> float:
        """Return the time."""
        return time.time()


class JsonRuns:
    """The runs. The names of their files: `session~kind~created~id~root~parent.json`."""

    def __init__(self, path: Path, parts: JsonParts, durable: bool) -> None:
        self._folder, self._parts, self._durable = path / "runs", parts, durable

    def _find(self, run_id: str) -> Path | None:
        wanted = _safe(run_id)
        found = _files(self._folder, lambda fields: fields[3] == wanted)
        return found[0] if found else None

    def lock(self, run_id: str) -> None:
        """Do nothing."""

    def get(self, run_id: str) -> RunRow | None:
        path = self._find(run_id)
        found = _read(path) if path is not None else []
        return found[0] if found else None

    def put(self, row: RunRow) -> None:
        before = self._find(row.run_id)
        tree = (_safe(row.run_id), _safe(row.root_run_id), _safe(row.parent_run_id))
        name = "~".join((_safe(row.session_id), row.kind, f"{row.created_at:020.6f}", *tree))
        path = self._folder / f"{name}.json"
        _replace(path, dump(asdict(row)), self._durable)
        if before is not None and before != path:
            before.unlink(missing_ok=True)
        self._parts.delete(row.run_id)

    def delete(self, run_id: str) -> bool:
        self._parts.delete(run_id)
        path = self._find(run_id)
        if path is not None:
            path.unlink(missing_ok=True)
        return path is not None

    def _in_tree(self, field: int, run_id: str) -> list[RunRow]:
        """Return the runs that have an id as this field of the names of their files, the oldest first."""
        wanted = _safe(run_id)
        paths = _files(self._folder, lambda fields: fields[field] == wanted)
        return [row for path in sorted(paths, key=_created) for row in _read(path)]

    def open_in_tree(self, root_run_id: str) -> list[RunRow]:
        return [row for row in self._in_tree(4, root_run_id) if row.root_run_id == root_run_id and not row.is_final]

    def children(self, parent_run_id: str) -> list[RunRow]:
        return [row for row in self._in_tree(5, parent_run_id) if row.parent_run_id == parent_run_id]

    def of_session(
        self, session_id: str, kind: str | None, owner_id: str | None, limit: int | None, which: Which
    ) -> list[RunRow]:
        session = _safe(session_id)
        paths = _files(self._folder, lambda fields: fields[0] == session and kind in (None, fields[1]))
        paths.sort(key=_created)
        rows = [row for path in paths for row in _read(path) if owner_id in (None, row.owner_id)]
        if which != "all":
            rows = [row for row in rows if row.is_final is (which == "ended")]
        return rows if limit is None else rows[max(0, len(rows) - limit) :]

    def matching(self, query: RunQuery) -> list[RunRow]:
        session = None if query.session_id is None else _safe(query.session_id)
        paths = _files(self._folder, lambda fields: not fields[5] and session in (None, fields[0]))
        status, found = query.status, list[RunRow]()
        limit = None if status is not None and not status.is_final else query.limit
        for path in sorted(paths, key=lambda path: path.name.split("~")[2:4], reverse=True):
            if limit is not None and len(found) >= limit:
                break
            for row in _read(path):
                alike = status is None or (row.status == status.value if status.is_final else not row.is_final)
                if alike and query.places(row):
                    found.append(row)
        return found


class JsonParts:
    """The checkpoints of live runs. The names of their files: `id.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._folder, self._run_files = path / "parts", path / "runs"

    def _file(self, run_id: str) -> Path:
        return self._folder / f"{_safe(run_id)}.jsonl"

    def add(self, row: PartRow, epoch: int | None = None) -> bool:
        """Add a part to a live run. There are no epochs here."""
        file = self._file(row.run_id)
        if not file.exists():
            wanted = _safe(row.run_id)
            runs = [run for path in _files(self._run_files, lambda fields: fields[3] == wanted) for run in _read(path)]
            if not runs or runs[0].is_final:
                return False
        with file.open("ab") as lines:
            lines.write(dump(asdict(row)) + b"\n")
        return True

    def of_run(self, run_id: str) -> list[PartRow]:
        """Return the parts of a run. A last line that was cut off by a crash is not a part."""
        try:
            lines = self._file(run_id).read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [PartRow(**msgspec.json.decode(line)) for line in lines[:-1]]

    def delete(self, run_id: str) -> None:
        """Delete the parts of a run."""
        self._file(run_id).unlink(missing_ok=True)


class JsonSessions:
    """The sessions. The names of their files: `id~kind.json`."""

    def __init__(self, path: Path, runs: JsonRuns, durable: bool) -> None:
        self._folder, self._runs, self._durable = path / "sessions", runs, durable

    def _file(self, session_id: str, kind: str) -> Path:
        return self._folder / f"{_safe(session_id)}~{kind}.json"

    def _load(self, paths: list[Path]) -> list[StoredSession]:
        """Return the sessions in these files, without those that were deleted meanwhile."""
        found = []
        for path in paths:
            try:
                found.append(StoredSession(**msgspec.json.decode(path.read_bytes())))
            except FileNotFoundError:
                continue
        return found

    def lock(self, session_id: str) -> None:
        """Do nothing."""

    def get(self, session_id: str, kind: str) -> StoredSession | None:
        found = self._load([self._file(session_id, kind)])
        return found[0] if found else None

    def put(self, session: StoredSession) -> None:
        values = {field.name: to_json_value(getattr(session, field.name)) for field in fields(session)}
        _replace(self._file(session.session_id, session.kind), to_json_line(values), self._durable)

    def users(self, session_id: str) -> tuple[set[str | None], set[str | None]]:
        name = _safe(session_id)
        sessions = self._load(_files(self._folder, lambda fields: fields[0] == name))
        runs = self._runs.of_session(session_id, None, None, None, "all")
        return {one.user_id for one in sessions}, {row.user_id for row in runs}

    def delete(self, session_id: str, kind: str | None) -> bool:
        name = _safe(session_id)
        files = _files(self._folder, lambda fields: fields[0] == name and kind in (None, fields[1]))
        for file in files:
            file.unlink(missing_ok=True)
        runs = self._runs.of_session(session_id, kind, None, None, "all")
        for row in runs:
            self._runs.delete(row.run_id)
        return bool(files or runs)

    def matching(
        self, kind: str | None, owner_id: str | None, user_id: str | None, limit: int | None
    ) -> list[StoredSession]:
        sessions = self._load(_files(self._folder, lambda fields: kind in (None, fields[1])))
        found = [one for one in sessions if owner_id in (None, one.owner_id) and user_id in (None, one.user_id)]
        return sorted(found, key=lambda session: session.updated_at, reverse=True)[:limit]


class NoEvents:
    """The events, which are not stored."""

    def of_run(self, run_id: str, after: int = -1, limit: int | None = None) -> list[EventRow]:
        return []

    def add_last(self, rows: Sequence[EventRow]) -> bool:
        return True

    def terminal(self, run_id: str) -> EventRow | None:
        return None

    def move_terminal_last(self, run_id: str) -> None:
        """Do nothing."""


class NoOwners:
    """The processes, which have no leases here."""

    def get(self, process: str) -> tuple[str, float] | None:
        return None


class NoRequirements:
    """The requirements, which are stored in the outputs of their runs here."""

    def close(self, run_id: str) -> None:
        """Do nothing."""

    def of_tree(self, run_id: str) -> list[Requirement]:
        return []


def _safe(text: str | None) -> str:
    """Return an id as part of the name of a file; different ids have different names."""
    name = quote(text or "", safe="").replace("~", "%7E").replace(".", "%2E")
    return name if len(name) <= _LONGEST else hashlib.sha256(name.encode()).hexdigest()[:_LONGEST]


def _created(path: Path) -> str:
    return path.name.split("~")[2]


def _files(folder: Path, fits: Callable[[list[str]], bool]) -> list[Path]:
    """Return the files whose names have fields that fit."""
    names = [name for name in os.listdir(folder) if name.endswith(".json") and not name.startswith(".")]
    return [folder / name for name in names if fits(name[: -len(".json")].split("~"))]


def _read(path: Path) -> list[RunRow]:
    """Return the run in a file, or nothing if the file was deleted meanwhile."""
    try:
        return [RunRow(**msgspec.json.decode(path.read_bytes()))]
    except FileNotFoundError:
        return []


def _replace(path: Path, text: bytes, durable: bool) -> None:
    new = path.with_name(f".{path.name[:200]}.new")
    with new.open("wb") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
