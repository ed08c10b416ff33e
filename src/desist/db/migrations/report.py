"""The result of `db.check()` and `db.upgrade()`, and the error for tables of a newer version."""

from __future__ import annotations

from dataclasses import dataclass, field

from desist.db.migrations import steps

__all__ = ["SchemaReport", "too_new"]


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """The state of the tables of a database."""

    name: str  #: of the file or server, without passwords
    version: int = 0  #: the version of the tables; 0: there are none
    wanted: int = 0  #: the version that this desist needs
    problems: list[str] = field(default_factory=list)  #: empty if nothing is wrong

    @property
    def is_good(self) -> bool:
        """Whether the tables have the right version and no problems."""
        return self.version == self.wanted and not self.problems


def too_new(name: str, version: int) -> str:
    """Return the error message for tables of a newer version."""
    return (
        f"{name} was written by a newer desist: its tables have version {version},"
        f" this one knows {len(steps())}. Update desist, or use another database"
    )
