"""What `db.check()` and `db.upgrade()` return, and what is said of tables that are too new."""

from __future__ import annotations

from dataclasses import dataclass, field

from desist.db.migrations import steps

__all__ = ["SchemaReport", "too_new"]


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """How the tables of a database are."""

    name: str  #: of the file or server, without passwords
    version: int = 0  #: the numbered step that the tables stand at; 0 where there are none
    wanted: int = 0  #: the one that this desist needs
    problems: list[str] = field(default_factory=list)  #: what was found to be wrong; none is good

    @property
    def is_good(self) -> bool:
        """Whether it is of the right version, and nothing is wrong with it."""
        return self.version == self.wanted and not self.problems


def too_new(name: str, version: int) -> str:
    """Say that the tables are of a newer version."""
    return (
        f"{name} was written by a newer desist: its tables have version {version},"
        f" this one knows {len(steps())}. Update desist, or use another database"
    )
