"""The statements about what paused runs wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import msgspec

from desist.db.tables.base import placeholders
from desist.db.tables.sql_runs import ALL
from desist.db.tables.sql_transaction import SqlTransaction
from desist.run.records.json_values import dump
from desist.run.records.requirement import Requirement, RequirementState

__all__ = ["RequirementStatements"]

#: The columns, in the order of the fields of `Requirement`.
_NAMES = (
    *("requirement_id", "run_id", "root_run_id", "kind", "asked", "digest", "expected", "deadline", "on_timeout"),
    *("state", "answer", "answered_by", "answered_at"),
)
_COLUMNS = ", ".join(_NAMES)
#: The positions of the columns with JSON.
_JSON = tuple(_NAMES.index(name) for name in ("asked", "expected", "answer"))
_OPEN = RequirementState.open.value


@dataclass(slots=True)
class RequirementStatements:
    """The requirements."""

    _tx: SqlTransaction

    def add(self, requirements: Sequence[Requirement]) -> None:
        """Store new requirements. One that is stored already stays as it is."""
        for one in requirements:
            self._tx.execute(
                f"INSERT INTO {self._tx.names.requirements} ({_COLUMNS}) VALUES ({placeholders(len(_NAMES))})"
                " ON CONFLICT (requirement_id) DO NOTHING",
                _values(one),
            )

    def resolve(self, requirement: Requirement) -> bool:
        """Store the answer to an open requirement, or its timeout; return False if it is not open any more.

        This is the decision: one conditional update. The digest is part of the condition.
        """
        answer = None if requirement.answer is None else dump(requirement.answer).decode()
        values = (requirement.state, answer, requirement.by, requirement.at)
        where = "requirement_id = ? AND state = ? AND digest = ?"
        return (
            self._tx.execute(
                f"UPDATE {self._tx.names.requirements} SET state = ?, answer = ?, answered_by = ?, answered_at = ?"
                f" WHERE {where}",
                (*values, requirement.requirement_id, _OPEN, requirement.digest),
            )
            > 0
        )

    def close(self, run_id: str) -> None:
        """Close what is open of a run that ends."""
        self._tx.execute(
            f"UPDATE {self._tx.names.requirements} SET state = ?, answered_at = ? WHERE run_id = ? AND state = ?",
            (RequirementState.closed.value, self._tx.now(), run_id, _OPEN),
        )

    def _select(self, where: str, values: Sequence[Any], rest: str = "") -> list[Requirement]:
        rows = self._tx.rows(f"SELECT {_COLUMNS} FROM {self._tx.names.requirements} WHERE {where} {rest}", values)
        return [_requirement(row) for row in rows]

    def get(self, requirement_id: str) -> Requirement | None:
        """Return a requirement."""
        found = self._select("requirement_id = ?", (requirement_id,))
        return found[0] if found else None

    def of_tree(self, run_id: str) -> list[Requirement]:
        """Return the requirements of a run and of those below it."""
        return self._select("root_run_id = ? OR run_id = ?", (run_id, run_id), "ORDER BY requirement_id")

    def due(self, now: float, limit: int | None = None) -> list[Requirement]:
        """Return the open requirements whose deadline has passed, the earliest first."""
        where = "state = 'open' AND deadline IS NOT NULL AND deadline <= ?"
        return self._select(where, (now,), f"ORDER BY deadline LIMIT {ALL if limit is None else int(limit)}")

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of the open requirements."""
        where = "state = 'open' AND deadline IS NOT NULL"
        rows = self._tx.rows(f"SELECT min(deadline) FROM {self._tx.names.requirements} WHERE {where}")
        return float(rows[0][0]) if rows and rows[0][0] is not None else None

    def delete(self, run_id: str) -> None:
        """Delete the requirements of a run."""
        self._tx.execute(f"DELETE FROM {self._tx.names.requirements} WHERE run_id = ?", (run_id,))


def _values(requirement: Requirement) -> list[Any]:
    values = list(astuple(requirement))
    for position in _JSON:
        values[position] = None if values[position] is None else dump(values[position]).decode()
    return values


def _requirement(row: Sequence[Any]) -> Requirement:
    values = list(row)
    for position in _JSON:
        values[position] = None if values[position] is None else msgspec.json.decode(values[position])
    fields = dict(zip(Requirement.__slots__, values, strict=True))
    return Requirement(**fields)
